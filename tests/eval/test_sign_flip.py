"""The test against closed forms, a slow list of all signs, its own Monte Carlo, and its rate of false alarms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vidar.eval.sign_flip import EXACT, holm, sign_flip


def draws(seed, size):
    return np.random.Generator(np.random.Philox(seed)).normal(size=size)


@pytest.mark.parametrize("count", [1, 2, 5, 10, 16])
def test_differences_of_one_sign_have_the_smallest_p(count):
    """All and none positive are the only two sums as far from 0: p = 2 / 2^N."""
    assert sign_flip(np.arange(1, count + 1) * 0.1) == (2 / 2**count, 0.0)
    assert sign_flip(-np.ones(count) * 0.1) == (2 / 2**count, 0.0)


@pytest.mark.parametrize(("count", "wins"), [(7, 6), (8, 4), (12, 9), (16, 10)])
def test_equal_sizes_are_the_binomial_sign_test(count, wins):
    """|d| = 0.3 everywhere: the sum is 0.3 (2 k - N), so p = P(|2 k - N| >= |2 wins - N|) with k ~ Bin(N, 1/2)."""
    differences = 0.3 * np.where(np.arange(count) < wins, 1.0, -1.0)
    ways = sum(math.comb(count, k) for k in range(count + 1) if abs(2 * k - count) >= abs(2 * wins - count))
    assert sign_flip(differences).value == ways / 2**count


def test_by_a_slow_list_of_all_signs():
    for seed in range(5):
        values = draws(seed, 9)
        hits = [
            abs(math.fsum(s * v for s, v in zip(signs, values))) >= abs(math.fsum(values)) - 1e-12
            for signs in itertools.product((-1, 1), repeat=9)
        ]
        assert sign_flip(values).value == np.mean(hits)


def test_zeros_carry_no_sign_and_nothing_is_certain_without_numbers():
    values = draws(1, 6)
    assert sign_flip(np.concatenate([values, np.zeros(20)])) == sign_flip(values)
    assert sign_flip(np.zeros(9)) == (1.0, 0.0)


def test_more_starts_are_drawn_with_the_error_that_is_told():
    """N = 17: the drawn p is within 4 of its standard errors of the exact one; the same seed repeats it."""
    values = draws(3, EXACT + 1) + 0.35
    signs = 1 - 2 * ((np.arange(2**17)[:, None] >> np.arange(17)) & 1)
    exact = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-12)
    found = sign_flip(values, seed=1)
    assert 0.01 < exact < 0.5 and 0 < found.error < 0.002
    assert abs(found.value - exact) < 4 * found.error
    assert sign_flip(values, seed=1) == found and sign_flip(values, seed=2) != found
    assert sign_flip(np.full(64, 0.1)).value == 1 / 100_001  # never 0


def test_equal_models_are_told_apart_no_more_often_than_p_says():
    """Without a true difference P(p <= 0.05) is at most 0.05: 2,000 experiments, 4 standard deviations are 0.02."""
    alarms = np.mean([sign_flip(row).value <= 0.05 for row in draws(4, (2000, 8))])
    assert 0.02 < alarms < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []
    assert holm([0.02, 0.02]) == [0.04, 0.04]
