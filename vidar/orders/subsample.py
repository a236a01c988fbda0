"""Sub-samples of frames: a unit is a lattice of sites that are apart from one another (xAR, next sub-sample)."""

from __future__ import annotations

import torch

from vidar.core.grid import Grid, frame_grid
from vidar.core.order import Order
from vidar.orders.parts import LatticeConfig, parts_order


class SubsampleOrderConfig(LatticeConfig):
    """rows, columns: distance between neighbouring sites of a unit; a frame has rows x columns units.

    window: number of past frames that a unit sees; 0: only its own frame.
    """

    @property
    def in_parts(self) -> bool:
        """See `OrderConfig`."""
        return True

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`.

        Raises UsageError if the units would differ in size.
        """
        self.check_sides(height, width, "sub-samples")
        return subsample_order(height, width, self.rows, self.columns, self.window, num_frames)


def subsample_order(
    height: int, width: int, rows: int, columns: int, window: int, num_frames: int | None = None
) -> tuple[Order, Grid]:
    """Unit f K + k holds the sites of frame f with (y mod rows, x mod columns) = (k // columns, k % columns).

    K = rows x columns; sites are numbered as in whole frames (xAR, arXiv 2502.20388: "non-local grouping of distant
    patches"). Choice: units are in the raster order of their first sites. See `parts_order` for what sees what. Axes
    t y x.
    """
    site = torch.arange(height * width)
    part = site // width % rows * columns + site % width % columns
    inner = frame_grid(height, width)
    return parts_order(part, inner.coord(site), inner.axes, window, num_frames)
