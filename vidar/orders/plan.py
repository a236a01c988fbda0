"""Macro and micro plans: the anchors of a segment first, then the frames between them (MMPL, arXiv 2508.03334).

    step   0 0 | 1 1 | 2 2 2 2 2 2 | 1 1 1 | 3 3 3 3 3 3 | 1 1      the text-to-video layout of the paper
           first early    fill 1    middle     fill 2   terminal

Frames of equal step are one unit and are generated together; a frame is a cell. The first frames of segment s + 1 are
the terminal (or the middle) anchors of s, decoded and re-encoded, which is a content edge to the plan of s. Segments
are therefore separate tasks, and the chain of waiting units grows by one unit per segment (`vidar.orders.depth`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid, table_grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.orders.config import OrderConfig
from vidar.types import UsageError


class StepMap(Config):
    """The step in which each frame of a segment is generated.

    plan: the step of the anchors. Frames of earlier steps are those that a segment starts from; later steps fill the
    gaps.
    """

    steps: tuple[int, ...]
    plan: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> StepMap:
        if set(self.steps) != set(range(max(self.steps, default=0) + 1)) or self.units < self.plan + 2:
            raise ValueError(f"steps {self.steps} must be 0, 1, .. without a gap, with some after plan={self.plan}")
        if any(self.steps[t] >= self.plan for t in range(self.first)):
            raise ValueError(f"steps {self.steps}: frames of steps before plan={self.plan} must come first")
        if self.steps[-1] != self.plan or len(self.runs) < 2 or len(self.runs[-1]) < self.first:
            raise ValueError(
                f"steps {self.steps} must end with as many frames of step {self.plan} as the segment starts from"
            )
        return self

    @property
    def length(self) -> int:
        """N, the number of frames of a segment."""
        return len(self.steps)

    @property
    def units(self) -> int:
        """Number of units of a segment."""
        return max(self.steps) + 1

    @property
    def first(self) -> int:
        """Number of frames that a segment starts from: those of the steps before the plan."""
        return sum(step < self.plan for step in self.steps)

    @property
    def runs(self) -> tuple[tuple[int, ...], ...]:
        """The anchors grouped into runs of neighbours: early, middle, terminal."""
        frames = self.frames(self.plan)
        ends = [i + 1 for i, (a, b) in enumerate(pairwise(frames)) if b != a + 1]
        return tuple(frames[a:b] for a, b in pairwise([0, *ends, len(frames)]))

    @property
    def terminal(self) -> tuple[int, ...]:
        """The last anchors."""
        return self.runs[-1]

    @property
    def middle(self) -> tuple[int, ...]:
        """The anchors before the terminal ones."""
        return self.runs[-2]

    def frames(self, step: int) -> tuple[int, ...]:
        """The frames of a step."""
        return tuple(t for t, other in enumerate(self.steps) if other == step)

    def sees(self) -> Tensor:
        """bool [N, N]: a step sees itself and earlier steps, but fill 1 does not see the terminal anchors.

        Choice: the hidden step is found by its role, the first step after the plan. The released code names step 2,
        which in its image-to-video map is the plan itself, so that it hides a part of the plan from the plan.
        """
        step = torch.tensor(self.steps)
        table = step[None, :] <= step[:, None]
        hidden = torch.zeros(self.length, dtype=torch.bool)
        hidden[list(self.terminal)] = True
        return table & ~((step == self.plan + 1)[:, None] & hidden[None, :])

    def before(self, frame: int) -> int | None:
        """The nearest earlier frame that an earlier step generates, or None."""
        return next((t for t in range(frame - 1, -1, -1) if self.steps[t] < self.steps[frame]), None)


T2V = StepMap(steps=(0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1, 1, 3, 3, 3, 3, 3, 3, 1, 1))
I2V = StepMap(steps=(0, 1, 2, 2, 3, 3, 3, 3, 3, 3, 2, 2, 2, 4, 4, 4, 4, 4, 4, 2, 2), plan=2)


def thin(length: int) -> StepMap:
    """One frame per place of the paper's plan: first 0, anchors 1, N/2 and N - 1. Raises UsageError below 6 frames."""
    return _three(length, first=1)


def paired(length: int) -> StepMap:
    """A small version of the text-to-video plan: first frames 0 and 1, anchor 2, a middle pair, the last pair.

    Choice: pairs at both ends, because one frame does not show how things move. Raises UsageError below 10 frames.
    """
    return _three(length, first=2)


def _three(length: int, first: int) -> StepMap:
    middle, end = length // 2, length - first
    if first + 1 >= middle - first + 1 or middle + 1 >= end:
        raise UsageError(f"a segment of {length} frames has nothing to fill; use {2 + 4 * first} or more")
    steps = [2] * (middle - first + 1) + [3] * (length - middle + first - 1)
    steps[:first], steps[first], steps[end:] = [0] * first, 1, [1] * first
    steps[middle - first + 1 : middle + 1] = [1] * first
    return StepMap(steps=tuple(steps))


@dataclass(frozen=True)
class Chain:
    """How segments follow one another in a video. first: frames k that a segment starts from. made: frames m that a
    segment yields, including those.
    """

    map: StepMap
    first: int
    made: int

    @property
    def stride(self) -> int:
        """Number of frames between the starts of two segments."""
        return self.made - self.first

    def segments(self, frames: int, given: int) -> int:
        """Number of segments for `frames` new frames after a context of `given` frames."""
        return max(1, -(-(frames + given - self.first) // self.stride))

    def new(self, segment: int, given: int) -> slice:
        """The new frames of a segment: all after the context in segment 0, all but the first k in later segments."""
        return slice(given if segment == 0 else self.first, None)


class OnwardConfig(Config):
    """Base class of the configs of what the next segment starts from."""

    @abstractmethod
    def last(self, map: StepMap) -> int:
        """The last frame that a segment yields."""


class FromTerminalConfig(OnwardConfig):
    """The next segment starts from the terminal anchors, which gives most frames per segment (MMPL)."""

    def last(self, map: StepMap) -> int:
        """The last frame that a segment yields."""
        return map.terminal[-1]


class FromMiddleConfig(OnwardConfig):
    """The next segment starts from the middle anchors, which has the lowest memory peak (MMPL).

    The later anchors are planned but never used for filling: fill 2, which sees most, does not run, and the next
    segment generates those frames.
    """

    def last(self, map: StepMap) -> int:
        """The last frame that a segment yields."""
        return map.middle[-1]


class PlanOrderConfig(OrderConfig):
    """Segments with one step map. onward: which anchors the next segment starts from."""

    map: StepMap
    onward: OnwardConfig = FromTerminalConfig()

    @model_validator(mode="after")
    def _check(self) -> PlanOrderConfig:
        last, first = self.onward.last(self.map), self.map.first
        if any(self.map.steps[t] != self.map.plan for t in range(last - first + 1, last + 1)):
            raise ValueError(
                f"steps {self.map.steps}: a segment starts from {first} frames, which is more than there are anchors"
            )
        return self

    @property
    def unit_frames(self) -> int:
        """Number of frames generated from one start: a segment."""
        return self.map.length

    @property
    def chain(self) -> Chain:
        """How segments follow one another in a video."""
        return Chain(self.map, self.map.first, self.onward.last(self.map) + 1)

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> SegmentFrames:
        """The frame map of segments; each unit holds the frames of one step."""
        return SegmentFrames(self.chain)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of `num_frames` frames of height x width sites in whole segments; None: of one segment.

        Frames that a segment starts from count in both segments. Raises UsageError if the segments are not whole.
        """
        segments, rest = divmod(num_frames or self.map.length, self.map.length)
        if rest or not segments:
            raise UsageError(f"{num_frames} frames do not fill whole segments of {self.map.length}; give a multiple")
        return plan_order(segments, self.map, height, width)


def chain_of(order: OrderConfig, name: str) -> Chain:
    """The segments of a world's order. Raises UsageError for a world that does not plan segments."""
    if order.chain is None:
        raise UsageError(f"world {name!r} does not plan segments; this needs an order of PlanOrderConfig")
    return order.chain


@dataclass(frozen=True)
class SegmentFrames:
    """Segments with one step map: unit k of a segment holds the frames of step k."""

    chain: Chain

    chained = True  # a segment begins from the last frames of the one before

    @property
    def map(self) -> StepMap:
        """The step in which each frame of a segment is generated."""
        return self.chain.map

    def group(self, unit: int) -> int:
        """See `vidar.core.frames.FrameMap`."""
        return unit // self.map.units

    def units(self, group: int) -> range:
        """See `FrameMap`."""
        return range(group * self.map.units, (group + 1) * self.map.units)

    def frames(self, group: int) -> range:
        """See `FrameMap`. Frames that two segments share are counted in both."""
        return range(group * self.map.length, (group + 1) * self.map.length)

    def whole(self, frames: int) -> int:
        """See `FrameMap`. Returns at most the number of frames that precede the plan."""
        ends = accumulate(len(self.map.frames(step)) for step in range(self.map.plan))
        return max((end for end in ends if end <= frames), default=0)

    def spread(self, codes: Tensor) -> Tensor:
        """See `FrameMap`."""
        return codes

    def split(self, group: int, codes: Tensor) -> dict[int, Tensor]:
        """See `FrameMap`."""
        steps = zip(self.units(group), map(self.map.frames, range(self.map.units)), strict=True)
        return {unit: codes[..., list(frames), :, :].flatten(-3, -2) for unit, frames in steps}

    def join(self, group: int, codes: Mapping[int, Tensor]) -> Tensor:
        """See `FrameMap`."""
        steps = [self.map.frames(step) for step in range(self.map.units)]
        made = [codes[unit].unflatten(0, (len(own), -1)) for unit, own in zip(self.units(group), steps, strict=True)]
        return torch.cat(made)[torch.tensor([frame for own in steps for frame in own]).argsort()]


def plan_order(num_segments: int, map: StepMap, height: int, width: int) -> tuple[Order, Grid]:
    """One relation `main`; cell s N + t is frame t of segment s, and unit s U + k is its step k. Axes t y x.

    A unit sees its own segment (`StepMap.sees`); the first frames of a segment need the plan of the previous segment.
    """
    length, units, table = map.length, map.units, map.sees()
    steps = torch.tensor(map.steps)

    def sees(q: Tensor, k: Tensor) -> Tensor:
        same = (q.div(length, rounding_mode="floor") == k.div(length, rounding_mode="floor")) & (q >= 0)
        return same & table[q % length, k % length]

    def unit(cell: Tensor) -> Tensor:
        return cell.div(length, rounding_mode="floor") * units + steps[cell % length]

    def needs(u: Tensor, v: Tensor) -> Tensor:
        chained = u.div(units, rounding_mode="floor") == v.div(units, rounding_mode="floor") + 1
        return chained & (u % units < map.plan) & (v % units == map.plan)

    cells = num_segments * length
    t, y, x = torch.meshgrid(torch.arange(cells), torch.arange(height), torch.arange(width), indexing="ij")
    cell, coord = t.reshape(-1), torch.stack([t, y, x], dim=-1).reshape(-1, 3)
    order = Order({"main": Relation(sees)}, num_segments * units, cells, unit, needs)
    return order, table_grid(("t", "y", "x"), unit(cell), cell, coord)
