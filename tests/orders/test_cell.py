"""Cells of frames against the definition written out site by site."""

import pytest
import torch

from vidar.orders.cell import CellOrderConfig, cell_order
from vidar.types import UsageError


@pytest.mark.parametrize("rows, columns, window", [(2, 2, 1), (1, 3, 2), (2, 1, 0), (1, 1, 2)])
def test_sites_cells_and_what_they_see(rows, columns, window):
    height, width, frames, period = 4, 6, 4, rows * columns
    order, grid = cell_order(height, width, rows, columns, window, frames)
    seen = torch.cat([grid.sites(unit) for unit in range(frames * period)])
    assert sorted(seen.tolist()) == list(range(frames * height * width)) and order.num_units == frames * period
    places = [(t, y, x) for t in range(frames) for y in range(height) for x in range(width)]
    for site, (t, y, x) in enumerate(places):
        cell = t * period + y // (height // rows) * columns + x // (width // columns)
        assert int(grid.cell(torch.tensor(site))) == cell and site in grid.sites(cell).tolist()
        assert grid.coord(torch.tensor(site)).tolist() == [t, y, x]
    for q in range(frames * period):
        for k in range(frames * period):
            (f, i), (g, j) = divmod(q, period), divmod(k, period)
            same, before = f == g and j <= i, f - window <= g < f
            assert bool(order.sees[q, k]) == (same or before)
    furthest = max(int(q - k) for q, k in torch.nonzero(order.sees))
    assert furthest == window * period + period - 1 <= order.reach


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="order.rows: 4 rows of sites cannot be divided into 3 cells"):
        CellOrderConfig(rows=3, columns=1).build(4, 6)
    with pytest.raises(UsageError, match="order.columns: 6 columns of sites cannot be divided into 4 cells"):
        CellOrderConfig(rows=1, columns=4).build(4, 6)
