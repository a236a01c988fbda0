"""Chunks of frames in flight after a shared clean prefix, with factorised mixers (Ca2-VDM, Gao et al., ICML 2025).

first = 1, chunk = 2, prefix = 2      frames  0 | 1 2 | 3 4 | 5 6
    5 and 6 in flight read, by `prefix`, themselves, 3 and 4; by `time`, the window before 5, and 6 reads 5 too
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import Field, model_validator
from torch import Tensor

from vidar.core.frames import EvenFrames
from vidar.core.grid import Grid, frame_grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.relation import Relation, never, own
from vidar.orders.config import OrderConfig


class PrefixOrderConfig(OrderConfig):
    """chunk: frames in flight together, l.

    window: maximum number of clean frames before a chunk that are seen, P_max.

    first: frames before the first chunk; chunks begin at first, first + chunk, and so on. prefix: number of frames
    before a chunk that its frames see completely, P' (they see the others only at their own place).
    """

    chunk: int = Field(ge=1)
    window: int = Field(ge=1)
    prefix: int = Field(default=3, ge=1)
    first: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> PrefixOrderConfig:
        if self.window < self.first or self.whole(self.window) != self.window:
            low = self.whole(max(self.window, self.first))
            raise ValueError(
                f"window {self.window} is not {self.first} frames plus whole chunks of {self.chunk}; "
                f"use {low} or {low + self.chunk}"
            )
        if self.prefix > self.window:
            raise ValueError(f"prefix {self.prefix} reaches further than the window of {self.window} frames")
        return self

    @property
    def together(self) -> int:
        """See `OrderConfig`: a chunk."""
        return self.chunk

    @property
    def positions(self) -> int:
        """Length of the table of temporal positions, L_max = P_max + l."""
        return self.window + self.chunk

    def whole(self, frames: int) -> int:
        """How many of the last `frames` frames of a context can be continued: those up to the border of a chunk."""
        return max(0, frames - (frames - self.first) % self.chunk) if frames >= self.first else 0

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> PrefixFrames:
        """The frame map of frames with one unit each, continued at chunk borders."""
        return PrefixFrames(grid, order=self)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`."""
        return prefix_order(height, width, num_frames, self.chunk, self.prefix, self.window, self.first, self.positions)


@dataclass(frozen=True)
class PrefixFrames(EvenFrames):
    """`EvenFrames` that can only be continued at the border of a chunk."""

    order: PrefixOrderConfig = field(kw_only=True)

    def whole(self, frames: int) -> int:
        """See `PrefixOrderConfig.whole`."""
        return self.order.whole(frames)


def prefix_order(
    height: int,
    width: int,
    num_frames: int | None,
    chunk: int,
    prefix: int,
    past: int,
    first: int = 0,
    positions: int | None = None,
) -> tuple[Order, Grid]:
    """Relations `space`, `prefix` and `time` over frames, `chunk` of them in flight from frame `first` on.

    space   a frame reads itself (fold t)
    prefix  a frame in flight reads itself and the last `prefix` frames before its chunk; a committed one only itself
    time    the `past` frames before the chunk and those of the chunk up to itself, at the same place (fold y, x)

    Choice: `prefix` has the keys of the paper's equation, [h_{P-P'} .. h_{P-1}, h_i], as a mixer of its own after
    `space`, where the released code has it. The released code leaves out h_i, and a frame without a prefix would then
    read nothing. Without `num_frames` a chunk must be committed in one call, because the rings keep no more than what
    is read then. positions: the coordinate t is the frame number modulo this number, which is what the model receives
    (cyclic positions of the paper); None: the frame number itself. All frames that one frame reads in `time` have
    different positions if positions >= past + chunk.
    """

    def begin(q: Tensor) -> Tensor:
        """The first frame of a frame's chunk; frames before `first` form chunks that end there."""
        return (q - first).div(chunk, rounding_mode="floor") * chunk + first

    def before_chunk(q: Tensor, k: Tensor) -> Tensor:
        return (k == q) | ((k < begin(q)) & (k >= begin(q) - prefix))

    def clean(q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & (k >= begin(q) - past)

    sites, early = height * width, 0 if num_frames is None else chunk - 1
    relations = {
        "space": Relation(own, fold=("t",), capacity=0),
        "prefix": Relation(before_chunk, memory=own, capacity=(prefix + early) * sites),
        "time": Relation(clean, joint=True, fold=("y", "x"), capacity=(past + early) * sites),
    }
    reach = past + chunk - 1
    order = Order(relations, num_frames, num_frames, needs=never, reach=reach, period=chunk, warmup=reach)
    grid = frame_grid(height, width, num_frames)
    return order, grid if positions is None else cyclic(grid, positions)


def cyclic(grid: Grid, positions: int) -> Grid:
    """The same sites with the first coordinate, t, modulo `positions`."""

    def coord(site: Tensor) -> Tensor:
        made = grid.coord(site).clone()
        made[..., 0] %= positions
        return made

    return Grid(grid.axes, grid.sites, grid.cell, coord, grid.num_sites)
