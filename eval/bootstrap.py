"""Bootstrap intervals of means over starts (Efron 1979), with the small-sample correction of Hesterberg."""

from __future__ import annotations

import math

import numpy as np

from vidar.eval.frame_metrics import t_quantile
from vidar.types import UsageError

RESAMPLES = 10_000
COLUMNS = 64  # resampled at a time, so that memory stays small


def bootstrap(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the mean over the starts: float [E, ...] -> low [...], high [...].

    One resample draws E starts with replacement, the same ones for every column. nan: not measured (a game that
    ended); a column with fewer than two numbers has the interval nan. The tails are those of the expanded percentile
    interval (Hesterberg, What Teachers Should Know about the Bootstrap, 2015, section 4.1), Phi(-t sqrt(n / (n - 1)))
    with Student's t of n - 1 degrees of freedom, because the plain percentile interval of n = 16 is too narrow.
    Numbers come from Philox and sums have a fixed order, so the result is the same in all digits on any number of
    threads. Raises UsageError for fewer than two starts.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim < 1 or len(table) < 2:
        raise UsageError(f"a bootstrap interval needs two starts or more, not values of shape {list(table.shape)}")
    flat = table.reshape(len(table), -1)
    counts = _counts(len(flat), seed, resamples)
    low, high = np.empty(flat.shape[1]), np.empty(flat.shape[1])
    for first in range(0, flat.shape[1], COLUMNS):
        part = slice(first, first + COLUMNS)
        low[part], high[part] = _ends(flat[:, part], counts)
    return low.reshape(table.shape[1:]), high.reshape(table.shape[1:])


def tail(count: int) -> float:
    """The share of resamples below the lower end of the interval of `count` values."""
    return 0.5 * math.erfc(t_quantile(count - 1) * math.sqrt(count / (count - 1)) / math.sqrt(2.0))


def _counts(starts: int, seed: int, resamples: int) -> np.ndarray:
    """How often each resample draws each start: float64 [R, E]."""
    drawn = np.random.Generator(np.random.Philox(seed)).integers(0, starts, (resamples, starts))
    flat = (drawn + starts * np.arange(resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=starts * resamples).reshape(resamples, starts).astype(np.float64)


def _ends(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [E, T] and counts [R, E] -> the ends of the interval of each column."""
    there = np.isfinite(values)
    size = there.sum(0)
    sums = _summed(counts, np.where(there, values, 0.0))
    numbers = counts.sum(1, keepdims=True) if there.all() else _summed(counts, there.astype(np.float64))
    with np.errstate(invalid="ignore"):
        means = np.sort(sums / numbers, axis=0)  # nan, of resamples without a measured start, comes last
    low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    for column in np.flatnonzero(size >= 2):
        known = means[: np.count_nonzero(np.isfinite(means[:, column])), column]
        share = tail(int(size[column]))
        low[column], high[column] = _quantile(known, share), _quantile(known, 1.0 - share)
    return low, high


def _summed(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[R, E], [E, T] -> [R, T], start after start: a matrix product would have another order on other machines."""
    sums = np.zeros((len(counts), values.shape[1]))
    for number, row in zip(counts.T, values):
        sums += number[:, None] * row
    return sums


def _quantile(rising: np.ndarray, share: float) -> float:
    """The quantile of sorted numbers, linear between them."""
    place = share * (len(rising) - 1)
    below = min(int(place), len(rising) - 2)
    part = place - below
    return float((1.0 - part) * rising[below] + part * rising[below + 1])
