"""The interval against an exhaustive bootstrap, its coverage, and its independence of threads and columns."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from vidar.eval.bootstrap import COLUMNS, bootstrap, tail
from vidar.types import UsageError


def test_ends_are_those_of_all_resamples():
    """With 5 starts all 5^5 resamples can be listed; 40,000 drawn ones have their quantiles.

    The share of listed means below an end must be the tail, up to 5 standard deviations of a share of 40,000 draws
    and the mass of the value at the end itself.
    """
    values = np.array([0.0, 1.0, 2.5, 4.0, 9.0])
    listed = np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=5)])
    low, high = bootstrap(values, seed=3, resamples=40_000)
    share = tail(5)
    slack = 5 * math.sqrt(share * (1 - share) / 40_000)
    for end, side in ((float(low), listed), (-float(high), -listed)):
        assert np.mean(side < end - 1e-9) <= share + slack and np.mean(side <= end + 1e-9) >= share - slack
    assert abs(share - 0.5 * math.erfc(2.7764 * math.sqrt(5 / 4) / math.sqrt(2))) < 1e-6  # t of 4: 2.7764


def test_interval_covers_the_mean_as_often_as_it_says():
    """1,000 experiments of 12 normal numbers: 95 % of them, within 4 standard deviations (2.8 %) of a share.

    The plain percentile interval covers 92.0 % there (a t of 11 within 1.96 sqrt(11 / 12)), which is refused.
    """
    numbers = np.random.Generator(np.random.Philox(1)).normal(size=(12, 1000))
    low, high = bootstrap(numbers, seed=2, resamples=4000)
    covered = float(np.mean((low <= 0) & (high >= 0)))
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000), covered
    assert abs(covered - 0.92) > 0.01


def test_every_column_has_the_interval_that_it_has_alone():
    values = np.random.Generator(np.random.Philox(5)).normal(size=(6, COLUMNS + 3))
    low, high = bootstrap(values, seed=7, resamples=500)
    for column in (0, 1, COLUMNS, COLUMNS + 2):
        one = bootstrap(values[:, column], seed=7, resamples=500)
        assert (float(one[0]), float(one[1])) == (low[column], high[column])
    moved, scaled = bootstrap(values + 3, 7, 500), bootstrap(-2 * values, 7, 500)
    assert np.allclose(moved[0], low + 3, atol=1e-12) and np.allclose(scaled[0], -2 * high, atol=1e-12)
    assert bootstrap(values.reshape(6, 1, -1), 7, 500)[0].shape == (1, COLUMNS + 3)


def test_what_was_not_measured_does_not_count():
    values = np.array([[1.0, np.nan, np.nan], [2.0, 4.0, np.nan], [4.0, 5.0, 7.0], [8.0, 9.0, np.nan]])
    low, high = bootstrap(values, resamples=3000)
    assert np.isnan([low[2], high[2]]).all() and 4.0 <= low[1] < 6.0 < high[1] <= 9.0
    full = bootstrap(values[:, :1], resamples=3000)
    assert (full[0][0], full[1][0]) == (low[0], high[0])
    equal = bootstrap(np.full((5, 2), 3.0), resamples=100)
    assert (equal[0] == 3).all() and (equal[1] == 3).all()
    with pytest.raises(UsageError, match="two starts or more"):
        bootstrap(np.ones((1, 4)))


def test_digits_do_not_depend_on_threads():
    code = (
        "import numpy as np; from vidar.eval.bootstrap import bootstrap;"
        "v = np.random.Generator(np.random.Philox(1)).normal(size=(16, 175));"
        "print([end.tobytes().hex() for end in bootstrap(v, 1, 400)])"
    )
    found = set()
    for threads in ("1", "3"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
