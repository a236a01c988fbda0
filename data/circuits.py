"""A policy that no recipe trains on: it walks polygons, and then the same way mirrored. For held-out data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.data.explore import Draws, View
from vidar.data.players import Key, forward, keys_of, opposite
from vidar.rng import Rng
from vidar.types import UsageError


class CircuitsPolicyConfig(Config):
    """side, corner: fewest and most frames of a side, and of the turn at a corner. corners: of a polygon.

    Choice: all numbers. The turns of a polygon all go the same way, and the other way in the one that follows it.
    """

    side: tuple[int, int] = (6, 30)
    corner: tuple[int, int] = (4, 20)
    corners: tuple[int, int] = (3, 6)
    pause: tuple[int, int] = (0, 6)  # frames of rest before a corner
    steps: float = Field(
        default=0.3, ge=0, le=1
    )  # share of the sides that are walked sideways, if there are keys for it

    def build(self) -> CircuitsPolicy:
        """Raises UsageError for a range that is not fewest and most."""
        for name in ("side", "corner", "corners", "pause"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise UsageError(f"CircuitsPolicyConfig: {name} is ({low}, {high}), expected 0 <= fewest <= most")
        return CircuitsPolicy(self)


class CircuitsPolicy:
    """See CircuitsPolicyConfig."""

    def __init__(self, config: CircuitsPolicyConfig) -> None:
        self.config = config

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Start a new episode. Raises UsageError for a game without a pair of keys that turn, or move to both sides."""
        self.spec, self.draws = spec, Draws(rng)
        keys = {key.name: key for key in keys_of(spec)}
        names = list(keys)
        self.ahead = keys[forward(spec)]
        pairs = [(a, b) for a in names if (b := opposite(a, names)) is not None and names.index(a) < names.index(b)]
        pairs = [(keys[a], keys[b]) for a, b in pairs if self.ahead.name not in (a, b)]
        if not pairs:
            raise UsageError(f"no pair of opposite keys beside {self.ahead.name} among {', '.join(spec.names)}")
        turning = [pair for pair in pairs if "TURN" in pair[0].name.upper()]
        self.turns, self.sides = (turning or pairs)[0], [pair for pair in pairs if pair not in turning]
        self.rows = self._rows()

    def __call__(self, view: View) -> np.ndarray:
        """The next action row."""
        return next(self.rows)

    def _rows(self) -> Iterator[np.ndarray]:
        """Polygon after polygon, each followed by its mirror image."""
        c, draws = self.config, self.draws
        while True:
            plan = [
                (draws.integer(*c.side), draws.uniform() < c.steps, draws.integer(*c.pause), draws.integer(*c.corner))
                for _ in range(draws.integer(*c.corners))
            ]
            for mirrored in (0, 1):
                for side, sideways, pause, corner in plan:
                    walk = self.sides[0][mirrored] if sideways and self.sides else self.ahead
                    yield from self._held(walk, side)
                    yield from self._held(None, pause)
                    yield from self._held(self.turns[mirrored], corner)

    def _held(self, key: Key | None, frames: int) -> Iterator[np.ndarray]:
        for _ in range(frames):
            row = self.spec.noop()
            if key is not None:
                row[key.column] = key.value
            yield row
