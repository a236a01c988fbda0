"""Cells of frames: a frame is split into rows x columns of equal parts, a unit is one of them (xAR's next cell)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, never
from vidar.types import UsageError


class CellOrderConfig(Config):
    """rows, columns: cells of a frame. window: frames that a cell sees before its own, 0: every frame by itself."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    window: int = Field(default=4, ge=0)

    @property
    def unit_frames(self) -> int:
        """A frame is several units, and made as one."""
        return 1

    @property
    def period(self) -> int:
        """Units of a frame."""
        return self.rows * self.columns

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`.

        Raises UsageError where the sites do not divide into cells.
        """
        for name, size, parts in (("rows", height, self.rows), ("columns", width, self.columns)):
            if size % parts:
                raise UsageError(f"order.{name}: {size} {name} of sites do not divide into {parts} cells")
        return cell_order(height, width, self.rows, self.columns, self.window, num_frames)


def cell_order(
    height: int, width: int, rows: int, columns: int, window: int, num_frames: int | None = None
) -> tuple[Order, Grid]:
    """Unit f K + k is cell k of frame f, row by row, K = rows x columns; sites are numbered as in whole frames.

    One relation `main`: a cell sees itself, the cells before it in its frame and all of the `window` frames before. Its
    ring keeps these frames and, where frames are several cells, the one that is being made. Axes t y x.
    """
    inner, period, size = frame_grid(height, width, num_frames), rows * columns, height * width
    high, wide = height // rows, width // columns

    def cell(site: Tensor) -> Tensor:
        y, x = site % size // width, site % width
        return site // size * period + y // high * columns + x // wide

    places = [torch.nonzero(cell(torch.arange(size)) == k)[:, 0] for k in range(period)]

    def sees(q: Tensor, k: Tensor) -> Tensor:
        frame = k.div(period, rounding_mode="floor")
        return (k <= q) & (frame >= q.div(period, rounding_mode="floor") - window)

    grid = Grid(
        inner.axes,
        sites=lambda unit: unit // period * size + places[unit % period],
        cell=cell,
        coord=inner.coord,
        num_sites=inner.num_sites,
    )
    count = None if num_frames is None else num_frames * period
    relation = Relation(sees, capacity=(window + (period > 1)) * size)
    reach = max(window, 1) * period + period - 1  # a hint may need the frame before, seen or not
    return Order({"main": relation}, count, count, needs=never, reach=reach, warmup=reach), grid
