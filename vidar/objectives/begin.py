"""Where a unit begins in play: at noise, or with its ends at noised anchors (MMPL's transition noise)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.relation import Rule, never
from vidar.orders.plan import StepMap

Made = Callable[[int], Tensor]  # unit -> its code, [n, C]


class NoiseBeginConfig(Config):
    """Plain noise."""

    def build(self) -> NoiseBegin:
        """The beginning."""
        return NoiseBegin()


class NoiseBegin:
    """x at level 1 is the noise."""

    needs: Rule = staticmethod(never)

    def __call__(self, unit: int, made: Made, noise: Tensor) -> Tensor:
        """Noise [n, C] -> x [n, C]."""
        return noise


class AnchorBeginConfig(Config):
    """The first and the last frame of a fill begin at (1 - sigma) anchor + sigma noise, with the anchor beside them.

    map: of the order. The model is told level 1 all the same. 1 is off, and the default: the released code means to do
    this, but looks its level up beyond the end of the table and gets plain noise (planning-memory-control 1.6), so no
    figure of the paper speaks for another value. A model is not trained on such a beginning.
    """

    map: StepMap
    sigma: float = Field(default=1.0, ge=0, le=1)

    def build(self) -> AnchorBegin:
        """The beginning."""
        return AnchorBegin(self.map, self.sigma)


class AnchorBegin:
    """Only fills have ends; their anchors are those of the plan."""

    def __init__(self, map: StepMap, sigma: float):
        self.map, self.sigma = map, sigma

    def needs(self, u: Tensor, v: Tensor) -> Tensor:
        """The plan of the segment; nothing where sigma is 1."""
        units, plan = self.map.units, self.map.plan
        same = u.div(units, rounding_mode="floor") == v.div(units, rounding_mode="floor")
        return same & (u % units > plan) & (v % units == plan) & (self.sigma < 1)

    def __call__(self, unit: int, made: Made, noise: Tensor) -> Tensor:
        """Noise [n, C], n sites of a unit, frame by frame -> x [n, C]."""
        segment, step = divmod(unit, self.map.units)
        if self.sigma == 1 or step <= self.map.plan:
            return noise
        frames, anchors = self.map.frames(step), self.map.frames(self.map.plan)
        x = noise.unflatten(0, (len(frames), -1)).clone()
        known = made(segment * self.map.units + self.map.plan).unflatten(0, (len(anchors), -1)).to(x)
        for place, beside in ((0, frames[0] - 1), (-1, frames[-1] + 1)):
            if beside in anchors:
                x[place] = torch.lerp(known[anchors.index(beside)], noise.unflatten(0, x.shape[:2])[place], self.sigma)
        return x.flatten(0, 1)
