"""Filters against slow loops over single rows."""

import numpy as np
import pytest
import torch

from vidar.sampling.filters import TemperatureConfig, TopKConfig, TopPConfig
from vidar.types import UsageError


def logits():
    return torch.tensor(np.random.default_rng(0).normal(size=(5, 7)) * 2)


def test_temperature_is_a_power_of_the_odds():
    soft, x = TemperatureConfig(value=0.5).build()(logits(), None), logits()
    odds, sharper = x.softmax(-1)[0, 0] / x.softmax(-1)[0, 1], soft.softmax(-1)[0, 0] / soft.softmax(-1)[0, 1]
    assert sharper.item() == pytest.approx(odds.item() ** 2)


def test_top_k_keeps_the_likeliest_and_ties():
    found = TopKConfig(count=3).build()(logits(), None)
    for row, kept in zip(logits().tolist(), found.tolist()):
        assert [v for v in kept if v > -np.inf] == [v for v in row if v in sorted(row)[-3:]]
    assert torch.equal(TopKConfig(count=99).build()(logits(), None), logits())
    tied = torch.tensor([[1.0, 2.0, 1.0, 0.0]])
    assert TopKConfig(count=2).build()(tied, None).isfinite().tolist() == [[True, True, True, False]]


def test_top_p_keeps_the_smallest_set_that_reaches_the_share():
    for share in (0.01, 0.3, 0.7, 0.95, 1.0):
        found = TopPConfig(share=share).build()(logits(), None)
        for row, kept in zip(logits().softmax(-1).tolist(), found.isfinite().tolist()):
            total, inside = 0.0, set()
            for place in sorted(range(len(row)), key=lambda i: -row[i]):
                if total >= share:
                    break
                inside.add(place)
                total += row[place]
            assert {i for i, yes in enumerate(kept) if yes} == inside


@pytest.mark.parametrize(("share", "kept"), [(0.25, 1), (0.5, 2), (0.5001, 3), (0.75, 3), (1.0, 4)])
def test_top_p_takes_nothing_beyond_a_sum_that_is_exact(share, kept):
    """Four labels of a quarter each: two of them are a half, so nobody else is needed."""
    assert int(TopPConfig(share=share).build()(torch.zeros(1, 4), None).isfinite().sum()) == kept


def test_values_out_of_range_are_refused():
    for make in (lambda: TemperatureConfig(value=0), lambda: TopKConfig(count=0), lambda: TopPConfig(share=0)):
        with pytest.raises(UsageError):
            make()
