"""A policy that plays as people do: it explores, and between, it rests, holds keys, turns back, taps and mashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from pydantic import Field

from vidar.actions import Action, ActionSpec
from vidar.config import Config
from vidar.data.explore import Draws, ExplorePolicyConfig, HoldPolicyConfig, View
from vidar.data.players import players
from vidar.rng import Rng
from vidar.types import UsageError


class MixturePolicyConfig(Config):
    """The explorer and a drawn player take turns, so that players begin at many places. Choice: all numbers.

    Weights of the players: rest no key; hold one or two keys, into walls and round and round; back turns or steps, and
    undoes them; walk ahead, an about turn, and the way back; tap; mash; random holds keys for random times; glide any
    value of the actions that have one (mouse and stick rates), each held for a while.
    """

    explored: tuple[int, int] = (12, 60)  # shortest and longest turn of the explorer, in frames
    played: tuple[int, int] = (20, 100)  # and of a player
    rest: float = Field(default=0.12, ge=0)
    hold: float = Field(default=0.24, ge=0)
    back: float = Field(default=0.16, ge=0)
    walk: float = Field(default=0.1, ge=0)
    tap: float = Field(default=0.05, ge=0)
    mash: float = Field(default=0.13, ge=0)
    random: float = Field(default=0.2, ge=0)
    glide: float = Field(default=0.4, ge=0)
    move: float = Field(default=0.6, ge=0, le=1)  # probability that an action of a glide is not at rest
    fps: float = Field(default=17.5, gt=0)  # of the game; walks and turns last for seconds

    def build(self) -> MixturePolicy:
        """Raises UsageError for a turn that is not shortest and longest, or without a weight above 0."""
        for name in ("explored", "played"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise UsageError(f"MixturePolicyConfig: {name} is ({low}, {high}), expected 1 <= shortest <= longest")
        if not any(getattr(self, kind) for kind in KINDS):
            raise UsageError(f"MixturePolicyConfig: give one of {', '.join(KINDS)} a weight above 0")
        return MixturePolicy(self)


KINDS = ("rest", "hold", "back", "walk", "tap", "mash", "random", "glide")


class MixturePolicy:
    """See MixturePolicyConfig."""

    def __init__(self, config: MixturePolicyConfig) -> None:
        self.config = config

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Start a new episode. Raises UsageError for a spec without keys."""
        c, self.spec, self.seed = self.config, spec, rng.seed
        self.tables = players(spec, c.fps, turn=round(3 * c.fps))
        keyed = ActionSpec(actions=tuple(action for action in spec.actions if action.kind != "continuous"))
        self.draws = Draws(Rng(rng.seed, 1))  # the explorer has those of `rng`
        self.named = {kind: [name for name in self.tables if _kind(name) == kind] for kind in KINDS}
        self.named["random"], self.named["glide"] = ["random"], ["glide"] * bool(_rates(spec))
        self.explorer, self.holder = ExplorePolicyConfig().build(), HoldPolicyConfig(p_rest=0.6).build()
        self.explorer.start(spec, rng)
        self.holder.start(keyed, Rng(rng.seed, 2))
        self.turns = self.left = 0

    def __call__(self, view: View) -> np.ndarray:
        """The next action row."""
        if self.left == 0:
            self._next()
        self.left -= 1
        return self.playing(view)

    def _next(self) -> None:
        """Whose turn it is, and for how long."""
        c, exploring = self.config, self.turns % 2 == 0
        self.turns += 1
        self.left = self.draws.integer(*(c.explored if exploring else c.played))
        self.playing: Callable[[View], np.ndarray] = self.explorer if exploring else self._player()

    def _player(self) -> Callable[[View], np.ndarray]:
        kind = self.draws.pick({kind: float(getattr(self.config, kind)) for kind, names in self.named.items() if names})
        if kind == "random":
            return self._held
        if kind == "glide":
            rows = self._glide()
        else:
            names = self.named[kind]
            name = names[self.draws.integer(0, len(names) - 1)]
            rows = iter(self.tables[name](self.left, self.seed * 100 + self.turns))
        return lambda view: next(rows)

    def _held(self, view: View) -> np.ndarray:
        """Random keys; actions of any value are at rest."""
        row = self.spec.noop()
        row[[action.kind != "continuous" for action in self.spec.actions]] = self.holder(view)
        return row

    def _glide(self) -> Iterator[np.ndarray]:
        """Any value of each continuous action, or rest."""
        while True:
            row = self.spec.noop()
            for column, action in _rates(self.spec):
                value = action.low + self.draws.uniform() * (action.high - action.low)
                if self.draws.uniform() < self.config.move:
                    row[column] = value
            for _ in range(self.draws.integer(4, 24)):
                yield row


def _rates(spec: ActionSpec) -> list[tuple[int, Action]]:
    """The continuous actions, each with its column."""
    return [(column, action) for column, action in enumerate(spec.actions) if action.kind == "continuous"]


def _kind(player: str) -> str:
    """The kind of a player of `players`, by its name."""
    if player.endswith(" and back"):
        return "back"
    return {"idle": "rest", "walk and return": "walk"}.get(player, player.split()[0])
