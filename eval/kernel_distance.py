"""Kernel distances of two sets of features: squared maximum mean discrepancy (Gretton et al. 2012), in float64.

kid   k(x, y) = (x.y / d + 1)^3, without bias; mean over subsets (Binkowski et al., Demystifying MMD GANs, 2018)
jedi  k(x, y) = (x.y / d)^2, with the diagonal, times 100 (Luo et al., Beyond FVD, 2024)
"""

from __future__ import annotations

import math

import numpy as np

from vidar.types import UsageError


def mmd2(
    real: np.ndarray, fake: np.ndarray, degree: int, coef0: float, gamma: float | None = None, biased: bool = False
) -> float:
    """Squared MMD of features [N, d] and [M, d] with the kernel (gamma x.y + coef0)^degree; gamma None: 1 / d.

    biased: with the diagonals (divided by N^2), otherwise without them (divided by N (N - 1)); the latter has the
    right mean and may be negative. Raises UsageError for other shapes or fewer than 2 rows.
    """
    x, y = _checked(real, fake)
    scale = 1.0 / x.shape[1] if gamma is None else gamma

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (scale * (a @ b.T) + coef0) ** degree

    within = []
    for z in (x, y):
        k, n = kernel(z, z), len(z)
        within.append(k.mean() if biased else (k.sum() - np.trace(k)) / (n * (n - 1)))
    return float(within[0] + within[1] - 2.0 * kernel(x, y).mean())


def kid(
    real: np.ndarray, fake: np.ndarray, subset: int = 1000, subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Mean of the unbiased distance over random subsets, and its standard error (deviation / sqrt(subsets)).

    subset: rows per subset, at most the smaller set.
    """
    x, y = _checked(real, fake)
    size = min(subset, len(x), len(y))
    random = np.random.Generator(np.random.Philox(seed))
    found = [
        mmd2(x[random.choice(len(x), size, replace=False)], y[random.choice(len(y), size, replace=False)], 3, 1.0)
        for _ in range(subsets)
    ]
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(subsets)) if subsets > 1 else math.nan


def jedi(real: np.ndarray, fake: np.ndarray) -> float:
    """JEDi's distance of features, in its units."""
    return 100.0 * mmd2(real, fake, 2, 0.0, biased=True)


def _checked(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise UsageError(
            f"features are {list(x.shape)} and {list(y.shape)}, expected [N, d] and [M, d], 2 rows or more"
        )
    for name, values in (("real", x), ("generated", y)):
        if not np.isfinite(values).all():
            raise UsageError(f"{name} features: row {int(np.argmin(np.isfinite(values).all(1)))} is not finite")
    return x, y
