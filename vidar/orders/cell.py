"""Cells of frames: a frame is split into rows x columns equal parts, and each part is a unit (xAR, next cell)."""

from __future__ import annotations

import torch

from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.orders.parts import LatticeConfig, parts_order


class CellOrderConfig(LatticeConfig):
    """rows, columns: cells of a frame. window: number of past frames that a cell sees; 0: only its own frame."""

    @property
    def in_parts(self) -> bool:
        """See `OrderConfig`."""
        return True

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`.

        Raises UsageError if the sites cannot be divided into the cells.
        """
        self.check_sides(height, width, "cells")
        return cell_order(height, width, self.rows, self.columns, self.window, num_frames)


def cell_order(
    height: int, width: int, rows: int, columns: int, window: int, num_frames: int | None = None
) -> tuple[Order, Grid]:
    """Unit f K + k is cell k of frame f in raster order, with K = rows x columns.

    Sites are numbered as in whole frames.

    See `parts_order` for what sees what. Axes t y x.
    """
    site = torch.arange(height * width)
    part = site // width // (height // rows) * columns + site % width // (width // columns)
    inner = frame_grid(height, width)
    return parts_order(part, inner.coord(site), inner.axes, window, num_frames)
