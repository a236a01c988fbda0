"""Hints for planned frames: the nearest known earlier frame as input channels, in addition to attention."""

from __future__ import annotations

import torch
from torch import Tensor

from vidar.objectives.hint import Committed, HintConfig
from vidar.orders.plan import StepMap


class AnchorHintConfig(HintConfig):
    """The nearest earlier frame that a previous step generated, as further input channels, site by site.

    map: the step map of the order. For a plan these frames are the first frames, for a fill the anchors to its left.
    Choice: a network that outputs zero then repeats the last known frame, so that the change since that frame is
    learned.
    """

    map: StepMap

    def build(self, channels: int) -> AnchorHint:
        """The hint."""
        return AnchorHint(channels, self.map)


class AnchorHint:
    """C columns; zero where nothing of the segment is known before a frame."""

    def __init__(self, channels: int, map: StepMap):
        self.width, self.map = channels, map
        self.table = torch.zeros(map.units, map.units, dtype=torch.bool)
        for frame, step in enumerate(map.steps):
            if (source := map.before(frame)) is not None:
                self.table[step, map.steps[source]] = True

    def needs(self, u: Tensor, v: Tensor) -> Tensor:
        """Content edges: the steps of the same segment that hold these frames."""
        units = self.map.units
        same = u.div(units, rounding_mode="floor") == v.div(units, rounding_mode="floor")
        return same & self.table[u % units, v % units]

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, C] for the n sites of a unit, frame by frame."""
        segment, step = divmod(unit, self.map.units)
        frames, made = self.map.frames(step), torch.zeros_like(like)
        sites = len(like) // len(frames)
        for place, frame in enumerate(frames):
            source = self.map.before(frame)
            if source is not None:
                other = self.map.steps[source]
                known = committed(segment * self.map.units + other)
                there = self.map.frames(other).index(source)
                made[place * sites : (place + 1) * sites] = known[there * sites : (there + 1) * sites]
        return made
