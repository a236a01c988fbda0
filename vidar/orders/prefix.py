"""Chunks of frames in flight over a shared clean prefix, with factorised mixers (Ca2-VDM, Gao et al., 2025).

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
    """chunk: frames in flight together, l. window: clean frames before a chunk that its frames see at most, P_max.

    first: frames before the first chunk; chunks begin at first, first + chunk, and so on. prefix: frames before a chunk
    that its frames see whole, P' (the others only at the same place).
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
                f"window {self.window} is not {self.first} frames and whole chunks of {self.chunk}; "
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
        """Of so many frames of context, how many the world can go on from: the last ones, up to a chunk's border."""
        return max(0, frames - (frames - self.first) % self.chunk) if frames >= self.first else 0

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> PrefixFrames:
        """Frames of one unit each, of which whole chunks are gone on from."""
        return PrefixFrames(grid, order=self)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`."""
        return prefix_order(height, width, num_frames, self.chunk, self.prefix, self.window, self.first, self.positions)


@dataclass(frozen=True)
class PrefixFrames(EvenFrames):
    """`EvenFrames` that are gone on from at the border of a chunk."""

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
    time    the `past` frames before the chunk and those of the chunk up to oneself, at the same place (fold y, x)

    Choice: `prefix` has the keys of the paper's equation, [h_{P-P'} .. h_{P-1}, h_i], as a mixer of its own behind
    `space`, where the released code has it; that one leaves out h_i, and a frame without a prefix would read nothing.
    Without `num_frames` a chunk must be committed in one call: the rings hold what is read then, and no more.
    positions: the coordinate t is the frame number modulo so many, which is what the model is told (2.3); None: the
    number itself. All frames that one reads in `time` have different positions where positions >= past + chunk.
    """

    def begin(q: Tensor) -> Tensor:
        """The first frame of a frame's chunk; the frames before `first` are chunks that end there."""
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
    """The same sites; the first coordinate, t, modulo so many positions."""

    def coord(site: Tensor) -> Tensor:
        made = grid.coord(site).clone()
        made[..., 0] %= positions
        return made

    return Grid(grid.axes, grid.sites, grid.cell, coord, grid.num_sites)
