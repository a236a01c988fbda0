"""FSQ against the formula channel by channel."""

import math

import numpy as np
import pytest
import torch

from vidar.tokenizers.fsq import FSQConfig
from vidar.types import UsageError

LEVELS = (8, 5, 4, 3, 2)


def slow(u, level):
    """(code, label) of one channel."""
    if level == 2:
        return (1.0, 1) if u > 0 else (-1.0, 0)
    half, off = (level - 1) * (1 - 1e-3) / 2, 0.5 if level % 2 == 0 else 0.0
    q = round(math.tanh(u + math.atanh(off / half)) * half - off)
    return q / (level // 2), q + level // 2


def test_against_the_formula():
    x = np.random.default_rng(0).normal(size=(50, 5)) * 1.5
    fsq = FSQConfig(levels=LEVELS).build()
    found = fsq.quantise(torch.tensor(x))
    for i in np.ndindex(*x.shape):
        code, label = slow(x[i], LEVELS[i[1]])
        assert found.code[i].item() == pytest.approx(code) and found.labels[i] == label
    assert found.loss.total == 0 and fsq.classes == LEVELS and fsq.channels == 5
    for channel, level in enumerate(LEVELS):
        assert set(found.labels[:, channel].tolist()) == set(range(level)), "every level is used"


def test_extremes_and_middle():
    fsq = FSQConfig(levels=LEVELS).build()
    low, zero, high = fsq.quantise(torch.tensor([[-100.0] * 5, [0.0] * 5, [100.0] * 5])).labels.tolist()
    assert low == [0] * 5 and zero == [4, 2, 2, 1, 0] and high == [7, 4, 3, 2, 1]


def test_labels_decode_to_the_code_in_bits():
    fsq = FSQConfig(levels=LEVELS).build()
    found = fsq.quantise(torch.randn(200, 5, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(fsq.code(found.labels), found.code)


def test_the_gradient_is_that_of_the_bounded_value():
    x = torch.tensor([[0.3, -0.2, 0.7, 1.1, -0.4]]).double().requires_grad_()
    weight = torch.arange(1.0, 6).double()
    grad = torch.autograd.grad((FSQConfig(levels=LEVELS).build().quantise(x).code * weight).sum(), x)[0]

    def bounded(u, level):
        if level == 2:
            return math.tanh(u)
        half, off = (level - 1) * (1 - 1e-3) / 2, 0.5 if level % 2 == 0 else 0.0
        return (math.tanh(u + math.atanh(off / half)) * half - off) / (level // 2)

    for channel, level in enumerate(LEVELS):
        u = x[0, channel].item()
        difference = (bounded(u + 1e-6, level) - bounded(u - 1e-6, level)) / 2e-6
        assert grad[0, channel].item() == pytest.approx((channel + 1) * difference, rel=1e-6)


def test_errors_are_one_line():
    fsq = FSQConfig(levels=LEVELS).build()
    with pytest.raises(UsageError, match=r"^label 5 of part 1 lies outside 0 to 4$"):
        fsq.code(torch.tensor([[0, 5, 0, 0, 0]]))
    with pytest.raises(UsageError, match="the last axis must be 5"):
        fsq.quantise(torch.zeros(2, 4))
    with pytest.raises(UsageError, match="levels needs one entry per channel, each 2 or more"):
        FSQConfig(levels=(4, 1))
