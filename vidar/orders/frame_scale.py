"""Frames of scales with one memory unit per frame: next-frame and next-scale prediction (VideoAR, arXiv 2601.05966)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.placement import PeriodicPlacement
from vidar.core.relation import Relation
from vidar.orders.config import OrderConfig
from vidar.orders.scale import scale_sites
from vidar.types import UsageError


class FrameScaleOrderConfig(OrderConfig):
    """sides: (h, w) of every scale, coarse to fine.

    window: number of past frames that are seen, by their memory units.
    """

    codes: ClassVar[str] = "scales"

    sides: tuple[tuple[int, int], ...]
    window: int = Field(default=7, ge=1)

    @property
    def scales(self) -> int:
        """See `OrderConfig`."""
        return len(self.sides)

    def check_scales(self, sides: Sequence[tuple[int, int]]) -> None:
        """See `OrderConfig`."""
        if tuple(sides) != self.sides:
            raise ValueError(f"order.sides {self.sides} differ from the scales of the tokenizer, {tuple(sides)}")

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> MemoryFrames:
        """The frame map of frames that consist of scales and a memory unit."""
        return MemoryFrames(len(self.sides) + 1, objective.latents)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames whose finest scale is height x width; endless without `num_frames`.

        Raises UsageError if the finest scale has another size.
        """
        if not self.sides or self.sides[-1] != (height, width):
            last = " x ".join(map(str, self.sides[-1])) if self.sides else "none"
            raise UsageError(f"order.sides: the last scale is {last}, the latents are {height} x {width}")
        return frame_scale_order(self.sides, num_frames, self.window)


@dataclass(frozen=True)
class MemoryFrames:
    """Frames of `num_units` units; the last unit holds the whole frame. latents: sums the codes of the other units."""

    num_units: int
    latents: Callable[[Mapping[int, Tensor]], Tensor]

    chained = False  # see `FrameMap`

    def group(self, unit: int) -> int:
        """See `vidar.core.frames.FrameMap`."""
        return unit // self.num_units

    def units(self, group: int) -> range:
        """See `FrameMap`."""
        return range(group * self.num_units, (group + 1) * self.num_units)

    def frames(self, group: int) -> range:
        """See `FrameMap`."""
        return range(group, group + 1)

    def whole(self, frames: int) -> int:
        """See `FrameMap`."""
        return frames

    def spread(self, codes: Tensor) -> Tensor:
        """See `FrameMap`. Returns its input, because training quantises the frames itself."""
        return codes

    def split(self, group: int, codes: Tensor) -> dict[int, Tensor]:
        """See `FrameMap`. Returns the memory unit."""
        return {self.units(group)[-1]: codes[..., 0, :, :]}

    def join(self, group: int, codes: Mapping[int, Tensor]) -> Tensor:
        """See `FrameMap`."""
        return self.latents({unit: codes[unit] for unit in self.units(group)[:-1]})[None]


def frame_scale_order(
    sizes: Sequence[tuple[int, int]], num_frames: int | None = None, past: int = 4
) -> tuple[Order, Grid]:
    """Unit f (K + 1) + k is scale k of frame f; unit f (K + 1) + K is the memory unit of frame f, its full content.

    (f, k) sees itself, the coarser scales of its frame and the memory units of the `past` frames before; its input
    needs the coarser scales. A memory unit needs all scales of its frame. Endless without `num_frames`.
    """
    scales = len(sizes)
    period = scales + 1
    pyramid = [(1, h, w) for h, w in sizes]
    number, coord = scale_sites([*pyramid, pyramid[-1]])
    coord[:, 0] = number
    per_frame = number.shape[0]

    def sees(q: Tensor, k: Tensor) -> Tensor:
        frame_q, frame_k = q // period, k // period
        inside = (frame_q == frame_k) & (k <= q)
        memory = (k % period == scales) & (frame_k < frame_q) & (frame_k >= frame_q - past)
        return inside | memory

    def needs(q: Tensor, k: Tensor) -> Tensor:
        return (q // period == k // period) & (k < q)

    def sites(unit: int) -> Tensor:
        return torch.nonzero(number == unit % period)[:, 0] + unit // period * per_frame

    def place(site: Tensor) -> Tensor:
        frame = (site // per_frame).to(torch.float64)
        inside = coord[site % per_frame].clone()
        inside[..., 1] = inside[..., 1] + frame
        return inside

    grid = Grid(
        axes=("s", "t", "y", "x"),
        sites=sites,
        cell=lambda site: site // per_frame * period + number[site % per_frame],
        coord=place,
        num_sites=None if num_frames is None else num_frames * per_frame,
    )
    count = None if num_frames is None else num_frames * period
    kept = PeriodicPlacement(torch.where(number == scales, past, 1))  # scales are read in their own frame only
    relation = Relation(sees, capacity=kept.size, placement=kept)
    reach = (past + 1) * period
    return Order({"main": relation}, count, count, needs=needs, reach=reach, period=period, warmup=reach), grid
