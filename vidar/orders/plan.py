"""Macro and micro plans: anchors of a segment first, the frames between them after (MMPL, arXiv 2508.03334).

    step   0 0 | 1 1 | 2 2 2 2 2 2 | 1 1 1 | 3 3 3 3 3 3 | 1 1      T2V, planning-memory-control 1.3
           first early    fill 1    middle     fill 2   terminal

Frames of equal step are one unit and are made together; a frame is a cell. The first frames of segment s + 1 are the
terminal anchors of s, or the middle ones, decoded and encoded anew: a content edge to the plan of s. So segments are
tasks of their own, and the chain of what waits for another grows by one unit a segment (`vidar.orders.depth`).
"""

from __future__ import annotations

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
    """The step in which each frame of a segment is made.

    plan: the step of the anchors. Frames of earlier steps are those that a segment starts from; later steps fill.
    """

    steps: tuple[int, ...]
    plan: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> StepMap:
        if set(self.steps) != set(range(max(self.steps, default=0) + 1)) or self.units < self.plan + 2:
            raise ValueError(f"steps {self.steps} must be 0, 1, .. without a gap, some of them after plan={self.plan}")
        if any(self.steps[t] >= self.plan for t in range(self.first)):
            raise ValueError(f"steps {self.steps}: those before plan={self.plan} must be the first frames")
        if self.steps[-1] != self.plan or len(self.runs) < 2 or len(self.runs[-1]) < self.first:
            raise ValueError(f"steps {self.steps} must end with as many frames of step {self.plan} as they start from")
        return self

    @property
    def length(self) -> int:
        """Frames of a segment, N."""
        return len(self.steps)

    @property
    def units(self) -> int:
        """Units of a segment."""
        return max(self.steps) + 1

    @property
    def first(self) -> int:
        """Frames that a segment starts from: those of the steps before the plan."""
        return sum(step < self.plan for step in self.steps)

    @property
    def runs(self) -> tuple[tuple[int, ...], ...]:
        """The anchors, neighbours together: early, middle, terminal."""
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
        """bool [N, N], frame by frame: steps up to the own one, but fill 1 does not see the terminal anchors (1.4).

        Choice: what is hidden follows the role, the first step after the plan. The released code names step 2, which
        in its I2V map is the plan itself, so that there it hides a part of the plan from the plan.
        """
        step = torch.tensor(self.steps)
        table = step[None, :] <= step[:, None]
        hidden = torch.zeros(self.length, dtype=torch.bool)
        hidden[list(self.terminal)] = True
        return table & ~((step == self.plan + 1)[:, None] & hidden[None, :])

    def before(self, frame: int) -> int | None:
        """The nearest frame before this one that an earlier step has made."""
        return next((t for t in range(frame - 1, -1, -1) if self.steps[t] < self.steps[frame]), None)


T2V = StepMap(steps=(0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1, 1, 3, 3, 3, 3, 3, 3, 1, 1))
I2V = StepMap(steps=(0, 1, 2, 2, 3, 3, 3, 3, 3, 3, 2, 2, 2, 4, 4, 4, 4, 4, 4, 2, 2), plan=2)


def thin(length: int) -> StepMap:
    """One frame in every place of the paper: first 0, anchors 1, N / 2 and N - 1. Raises UsageError below 6 frames."""
    return _three(length, first=1)


def paired(length: int) -> StepMap:
    """As T2V, small: first frames 0 and 1, anchors 2, a middle pair, the last pair. Raises UsageError below 10 frames.

    Choice: pairs at both ends, as one frame does not show where things move.
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
    """How segments lie in a video. first: frames k a segment starts from. made: frames m it gives, those included."""

    map: StepMap
    first: int
    made: int

    @property
    def stride(self) -> int:
        """Frames by which one segment starts after the other."""
        return self.made - self.first

    def segments(self, frames: int, given: int) -> int:
        """Segments for so many new frames after a context of `given` frames."""
        return max(1, -(-(frames + given - self.first) // self.stride))

    def new(self, segment: int, given: int) -> slice:
        """Which frames of `populate` are new: of segment 0 all behind the context, of others all but the first k."""
        return slice(given if segment == 0 else self.first, None)


class FromTerminalConfig(Config):
    """The next segment starts from the terminal anchors: most frames a segment (maximum throughput, 1.8)."""

    def last(self, map: StepMap) -> int:
        """The last frame that a segment gives."""
        return map.terminal[-1]


class FromMiddleConfig(Config):
    """The next segment starts from the middle anchors (minimum memory peak, 1.8).

    What comes after them is planned but never filled: fill 2, which sees most, does not run, and the next segment
    makes those frames.
    """

    def last(self, map: StepMap) -> int:
        """The last frame that a segment gives."""
        return map.middle[-1]


class PlanOrderConfig(OrderConfig):
    """Segments of one step map. onward: which anchors the next segment starts from."""

    map: StepMap
    onward: FromTerminalConfig | FromMiddleConfig = FromTerminalConfig()

    @model_validator(mode="after")
    def _check(self) -> PlanOrderConfig:
        last, first = self.onward.last(self.map), self.map.first
        if any(self.map.steps[t] != self.map.plan for t in range(last - first + 1, last + 1)):
            raise ValueError(f"steps {self.map.steps}: a segment starts from {first} frames, more than anchors there")
        return self

    @property
    def unit_frames(self) -> int:
        """Frames that are made from one start: a segment."""
        return self.map.length

    @property
    def chain(self) -> Chain:
        """How segments lie in a video."""
        return Chain(self.map, self.map.first, self.onward.last(self.map) + 1)

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> SegmentFrames:
        """Frames of segments, each unit the frames of one step."""
        return SegmentFrames(self.chain)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of `num_frames` frames of height x width sites in whole segments; None: of one segment.

        Frames that a segment starts from count in both segments. Raises UsageError where segments are not whole.
        """
        segments, rest = divmod(num_frames or self.map.length, self.map.length)
        if rest or not segments:
            raise UsageError(f"{num_frames} frames are not whole segments of {self.map.length}; give a multiple")
        return plan_order(segments, self.map, height, width)


def chain_of(order: OrderConfig, name: str) -> Chain:
    """The segments of a world's order. Raises UsageError for a world that does not plan."""
    if order.chain is None:
        raise UsageError(f"world {name!r} does not plan segments; this needs an order of PlanOrderConfig")
    return order.chain


@dataclass(frozen=True)
class SegmentFrames:
    """Segments of one step map: unit k of a segment holds the frames of step k."""

    chain: Chain

    chained = True  # a segment begins from the last frames of the one before

    @property
    def map(self) -> StepMap:
        """The step in which each frame of a segment is made."""
        return self.chain.map

    def group(self, unit: int) -> int:
        """See `vidar.core.frames.FrameMap`."""
        return unit // self.map.units

    def units(self, group: int) -> range:
        """See `FrameMap`."""
        return range(group * self.map.units, (group + 1) * self.map.units)

    def frames(self, group: int) -> range:
        """See `FrameMap`: counted in segments, though these share their ends."""
        return range(group * self.map.length, (group + 1) * self.map.length)

    def whole(self, frames: int) -> int:
        """See `FrameMap`: the frames of the first steps, at most those before the plan."""
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
    """One relation `main`; cell s N + t is frame t of segment s, unit s U + k its step k. Axes t y x.

    A unit sees its own segment (`StepMap.sees`); the first frames of a segment need the plan of the one before.
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
