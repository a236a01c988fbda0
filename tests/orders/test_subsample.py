"""Sub-samples of frames, by hand and against the definition written out site by site."""

import pytest
import torch

from vidar.orders.subsample import SubsampleOrderConfig, subsample_order
from vidar.types import UsageError


def test_a_frame_of_four_by_four_by_hand():
    """0 1 0 1 / 2 3 2 3 / 0 1 0 1 / 2 3 2 3."""
    _, grid = subsample_order(4, 4, 2, 2, 1)
    assert grid.cell(torch.arange(16)).tolist() == [0, 1, 0, 1, 2, 3, 2, 3] * 2
    assert grid.sites(0).tolist() == [0, 2, 8, 10] and grid.sites(3).tolist() == [5, 7, 13, 15]
    assert grid.sites(6).tolist() == [20, 22, 28, 30]  # unit 2 of frame 1


@pytest.mark.parametrize("rows, columns, window", [(2, 2, 1), (1, 3, 2), (2, 1, 0), (1, 1, 2)])
def test_sites_and_what_they_see(rows, columns, window):
    height, width, frames, period = 4, 6, 4, rows * columns
    order, grid = subsample_order(height, width, rows, columns, window, frames)
    seen = torch.cat([grid.sites(unit) for unit in range(frames * period)])
    assert sorted(seen.tolist()) == list(range(frames * height * width)) and order.num_units == frames * period
    places = [(t, y, x) for t in range(frames) for y in range(height) for x in range(width)]
    for site, (t, y, x) in enumerate(places):
        unit = next(t * period + k for k in range(period) if (y % rows, x % columns) == (k // columns, k % columns))
        assert int(grid.cell(torch.tensor(site))) == unit and site in grid.sites(unit).tolist()
        assert grid.coord(torch.tensor(site)).tolist() == [t, y, x]
    for q in range(frames * period):
        for k in range(frames * period):
            (f, i), (g, j) = divmod(q, period), divmod(k, period)
            assert bool(order.sees[q, k]) == ((f == g and j <= i) or f - window <= g < f)
    assert window * period + period - 1 <= order.reach


def test_the_sites_of_a_unit_lie_a_step_apart():
    _, grid = subsample_order(4, 6, 2, 3, 1)
    for unit in range(6):
        y, x = (grid.coord(grid.sites(unit))[:, axis].unique() for axis in (1, 2))
        assert y.diff().tolist() == [2.0] and x.diff().tolist() == [3.0]


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="order.columns: 5 columns of sites cannot be divided into 2 sub-samples"):
        SubsampleOrderConfig(rows=2, columns=2).build(4, 5)
