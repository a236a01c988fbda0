"""The initial state of a unit in play: noise, or noise whose ends are noised anchors (transition noise of MMPL)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.relation import never
from vidar.orders.plan import StepMap

Made = Callable[[int], Tensor]  # unit -> its code [n, C]


class Begin(Protocol):
    """The initial state of a unit in play."""

    def needs(self, u: Tensor, v: Tensor, /) -> Tensor:
        """Content edges, bool: unit u is begun from the code of unit v."""
        ...

    def __call__(self, unit: int, made: Made, noise: Tensor) -> Tensor:
        """The state [n, C], from fresh noise [n, C] and the codes of finished units."""
        ...


class BeginConfig(Config):
    """Base class of the configs of initial states."""

    @abstractmethod
    def build(self) -> Begin:
        """The initial state."""


class NoiseBeginConfig(BeginConfig):
    """The initial state is plain noise."""

    def build(self) -> NoiseBegin:
        """Build the initial state."""
        return NoiseBegin()


class NoiseBegin:
    """x at level 1 is the noise itself."""

    def needs(self, u: Tensor, v: Tensor) -> Tensor:
        """No content edge."""
        return never(u, v)

    def __call__(self, unit: int, made: Made, noise: Tensor) -> Tensor:
        """Noise [n, C] -> x [n, C]."""
        return noise


class AnchorBeginConfig(BeginConfig):
    """The first and the last frame of a fill start at (1 - sigma) anchor + sigma noise, with the anchor next to them.

    map: the step map of the order. The model still receives level 1. The default, 1, is plain noise: the released
    code of MMPL intends the mixture, but looks up its level beyond the end of the table and gets plain noise, so the
    figures of the paper support no other value. Training does not use such initial states.
    """

    map: StepMap
    sigma: float = Field(default=1.0, ge=0, le=1)

    def build(self) -> AnchorBegin:
        """Build the initial state."""
        return AnchorBegin(self.map, self.sigma)


class AnchorBegin:
    """Applies to fills only, whose ends have anchors; these belong to the plan."""

    def __init__(self, map: StepMap, sigma: float):
        self.map, self.sigma = map, sigma

    def needs(self, u: Tensor, v: Tensor) -> Tensor:
        """Content edges: the plan of the segment; none if sigma is 1."""
        units, plan = self.map.units, self.map.plan
        same = u.div(units, rounding_mode="floor") == v.div(units, rounding_mode="floor")
        return same & (u % units > plan) & (v % units == plan) & (self.sigma < 1)

    def __call__(self, unit: int, made: Made, noise: Tensor) -> Tensor:
        """Noise [n, C] for the n sites of a unit, frame by frame -> x [n, C]."""
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
