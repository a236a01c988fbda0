"""Cells of frames: a frame is split into rows x columns of equal parts, a unit is one of them (xAR's next cell)."""

from __future__ import annotations

import torch

from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.orders.parts import LatticeConfig, parts_order


class CellOrderConfig(LatticeConfig):
    """rows, columns: cells of a frame. window: frames that a cell sees before its own, 0: every frame by itself."""

    @property
    def in_parts(self) -> bool:
        """See `OrderConfig`."""
        return True

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`.

        Raises UsageError where the sites do not divide into cells.
        """
        self.check_sides(height, width, "cells")
        return cell_order(height, width, self.rows, self.columns, self.window, num_frames)


def cell_order(
    height: int, width: int, rows: int, columns: int, window: int, num_frames: int | None = None
) -> tuple[Order, Grid]:
    """Unit f K + k is cell k of frame f, row by row, K = rows x columns; sites are numbered as in whole frames.

    Who sees whom: see `parts_order`. Axes t y x.
    """
    site = torch.arange(height * width)
    part = site // width // (height // rows) * columns + site % width // (width // columns)
    inner = frame_grid(height, width)
    return parts_order(part, inner.coord(site), inner.axes, window, num_frames)
