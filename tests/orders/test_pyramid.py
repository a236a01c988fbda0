"""Pyramids of frames: units, places and means by hand, relations against brute force, the frame back in bits."""

import pytest
import torch

from vidar.orders.pyramid import PyramidOrderConfig, PyramidSites, pyramid_order
from vidar.types import UsageError

SIDES = [(1, 1), (1, 2), (2, 4)]  # 11 sites a frame


def test_units_and_places_by_hand():
    order, grid = pyramid_order(SIDES, 1, 2)
    assert order.num_units == 6 and grid.num_sites == 22 and grid.axes == ("s", "t", "y", "x")
    assert [grid.sites(unit).tolist() for unit in (0, 1, 2)] == [[0], [1, 2], list(range(3, 11))]
    assert [grid.sites(unit).tolist() for unit in (3, 4, 5)] == [[11], [12, 13], list(range(14, 22))]
    assert grid.cell(torch.arange(22)).tolist() == [0, 1, 1, *[2] * 8, 3, 4, 4, *[5] * 8]
    assert grid.coord(torch.tensor([0, 1, 2])).tolist() == [[0, 0, 0.5, 1.5], [1, 0, 0.5, 0.5], [1, 0, 0.5, 2.5]]
    assert grid.coord(torch.arange(14, 22)).tolist() == [[2, 1, y, x] for y in range(2) for x in range(4)]


@pytest.mark.parametrize("window", [0, 1, 2])
def test_what_scales_see(window):
    """Every scale up to their own in their frame, every scale of the frames before."""
    frames, period = 4, len(SIDES)
    order, _ = pyramid_order(SIDES, window, frames)
    pairs = [(f, s) for f in range(frames) for s in range(period)]
    expected = [[(f == g and r <= s) or f - window <= g < f for g, r in pairs] for f, s in pairs]
    assert order.sees.tolist() == expected
    assert pyramid_order(SIDES, window)[0].relations["main"].capacity == (window + 1) * 11
    assert window * period + period - 1 <= order.reach


def test_scales_are_means_of_areas():
    """2 x 4 sites of one latent, 0 .. 7: halves and the whole."""
    codes = torch.arange(8.0)[:, None]
    made = PyramidSites(SIDES).spread(codes)
    assert made[:, 0].tolist() == [3.5, 2.5, 4.5, *range(8)]  # (0 + 1 + 4 + 5) / 4 and (2 + 3 + 6 + 7) / 4


def test_a_site_of_patches_is_taken_apart_first():
    """1 x 2 sites of 2 x 2 latents: one site holds 2 x 2 means over pairs of columns, each row by itself."""
    rows = torch.tensor([[0.0, 2.0, 4.0, 8.0], [10.0, 30.0, 50.0, 90.0]])
    codes = torch.tensor([[0.0, 2.0, 10.0, 30.0], [4.0, 8.0, 50.0, 90.0]])  # (p q) of each site
    made = PyramidSites([(1, 1), (1, 2)], patch=2).spread(codes)
    assert made.tolist() == [rows.unflatten(1, (2, 2)).mean(2).flatten().tolist(), *codes.tolist()]


def test_channels_are_not_mixed():
    codes = torch.randn(8, 3 * 4, generator=torch.Generator().manual_seed(0))
    frames = PyramidSites([(1, 2), (2, 4)], patch=2)
    whole = frames.spread(codes)
    for channel in range(3):
        own = slice(4 * channel, 4 * channel + 4)
        assert torch.equal(frames.spread(codes[:, own]), whole[:, own])


def test_areas_that_do_not_divide_overlap():
    """3 columns to 2: 0, 1 and 1, 2, as torch's `area`."""
    made = PyramidSites([(1, 2), (1, 3)]).spread(torch.tensor([[1.0], [3.0], [7.0]]))
    assert made[:2, 0].tolist() == [2.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_frame_comes_back_in_bits(dtype):
    codes = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    frames = PyramidSites(SIDES, patch=2)
    made = frames.spread(codes)
    assert made.shape == (2, 5, 11, 12) and made.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(frames.take(made), codes.to(made))
    assert torch.equal(made[1, 3], frames.spread(codes[1, 3]))  # a frame of a batch of clips as one alone


def test_a_pyramid_that_ends_elsewhere_is_refused():
    with pytest.raises(UsageError, match="order.sides: the last scale is 2 x 4, the frames are 4 x 5 sites"):
        PyramidOrderConfig(sides=tuple(SIDES)).build(4, 5)
