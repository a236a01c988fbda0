"""Gains of scales: halved ones make a uniform quantiser; refusals."""

import pytest
import torch

from vidar.tokenizers import multi_scale as ms
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.schedules import still
from vidar.types import UsageError


def test_halved_gains_make_a_uniform_quantiser():
    """n visits of one bit, each half as large, take the nearest of 2^n evenly spaced levels; labels give it back."""
    visits, channels = 3, 16
    gains = tuple(0.5**n for n in range(visits))
    config = ms.MultiScaleConfig(quantiser=BSQConfig(channels=channels), sizes=((1, 2, 3),) * visits, gains=gains)
    x = (torch.rand(4, channels, 1, 2, 3, generator=torch.Generator().manual_seed(3)) * 4 - 2) * channels**-0.5
    found = config.build().quantise(x)
    step = 2 * gains[-1] * channels**-0.5
    levels = step * (torch.arange(2**visits) - (2**visits - 1) / 2)
    nearest = levels[(x.unsqueeze(-1) - levels).abs().argmin(-1)]
    assert torch.allclose(found.total, nearest, atol=1e-6)
    assert torch.equal(config.build().decode(found.labels), found.total)


def test_gains_are_one_positive_number_per_scale():
    for gains in ((1.0,), (1.0, 0.0)):
        with pytest.raises(UsageError, match="gains needs one positive number for each of the 2 scales"):
            ms.MultiScaleConfig(quantiser=BSQConfig(channels=4), sizes=still(((1, 1), (2, 2))), gains=gains)
