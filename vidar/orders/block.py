"""Blocks of frames: `frames` frames generated together are a unit, each frame is a cell (ACDiT, xAR, MAGI-1)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, Rule, never
from vidar.orders.config import OrderConfig
from vidar.types import PAD, UsageError


class BlockOrderConfig(OrderConfig):
    """frames: frames per block. window: number of past blocks that a block sees.

    in_flight > 1: blocks in flight read each other, with `forward` also later ones (MAGI-1; Rolling Forcing).
    """

    frames: int = Field(ge=1)
    window: int = Field(default=4, ge=1)
    in_flight: int = Field(default=1, ge=1)
    forward: bool = False

    @property
    def unit_frames(self) -> int:
        """Frames per unit."""
        return self.frames

    def flying(self, depth: int, both_ways: bool) -> BlockOrderConfig:
        """See `OrderConfig`."""
        return self.replace(in_flight=depth, forward=both_ways)

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of blocks of frames of height x width sites; endless without `num_frames`.

        Raises UsageError if the frames do not fill whole blocks.
        """
        if num_frames is not None and num_frames % self.frames:
            raise UsageError(f"{num_frames} frames do not fill whole blocks of {self.frames}; give a multiple")
        return block_order(height, width, self.frames, self.window, num_frames, self.in_flight, self.forward)


def block_order(
    height: int,
    width: int,
    frames: int,
    window: int,
    num_frames: int | None = None,
    in_flight: int = 1,
    forward: bool = False,
) -> tuple[Order, Grid]:
    """One relation `main`: a frame sees all of its own block and the `window` blocks before it; the ring keeps those.

    Axes t y x; positions are those of the frames.
    """
    inner, size = frame_grid(height, width, num_frames), height * width * frames

    def until(ahead: int) -> Rule:
        def sees(q: Tensor, k: Tensor) -> Tensor:
            q, k = (cell.div(frames, rounding_mode="floor") for cell in (q, k))
            return (k <= q + ahead) & (k >= q - window)

        return sees

    def unit(cell: Tensor) -> Tensor:
        return torch.where(cell < 0, PAD, cell.div(frames, rounding_mode="floor"))

    def sites(block: int) -> Tensor:
        return torch.arange(block * size, (block + 1) * size)

    units = None if num_frames is None else num_frames // frames
    joint, ahead = in_flight > 1, in_flight - 1 if forward else 0
    relation = Relation(until(ahead), until(0) if ahead else None, joint, capacity=window * size)
    order = Order({"main": relation}, units, num_frames, unit, never, frames, reach=window, period=1, warmup=window)
    return order, Grid(inner.axes, sites, inner.cell, inner.coord, inner.num_sites)
