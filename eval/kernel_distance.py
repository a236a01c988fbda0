"""Kernel distances of two sets of features: squared maximum mean discrepancy (Gretton et al. 2012), in float64.

kid   k(x, y) = (x.y / d + 1)^3, without bias (Binkowski et al., Demystifying MMD GANs, 2018)
jedi  k(x, y) = (x.y / d)^2, with the diagonal, times 100 (Luo et al., Beyond FVD, 2024)
"""

from __future__ import annotations

import math

import numpy as np

from vidar.types import UsageError

ROWS = 1024  # of a kernel matrix held at once


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


def kid(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    """The distance with KID's kernel over all clips, without bias, and its standard error by the jackknife.

    Binkowski et al. average it over 100 random subsets of 1,000, which estimates the same value. Choice: all clips and
    the jackknife, because subsets of one small set overlap, and their spread says nothing about other clips.
    Raises UsageError as `mmd2`, and for fewer than 3 rows.
    """
    x, y = _checked(real, fake)
    if min(len(x), len(y)) < 3:
        raise UsageError(f"kid needs 3 clips or more on each side, not {len(x)} and {len(y)}")
    (x_self, x_cross), (y_self, y_cross) = _row_sums(x, y), _row_sums(y, x)
    n, m, xx, yy, xy = len(x), len(y), x_self.sum(), y_self.sum(), x_cross.sum()
    whole = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2.0 * xy / (n * m)
    without_x = (xx - 2 * x_self) / ((n - 1) * (n - 2)) + yy / (m * (m - 1)) - 2.0 * (xy - x_cross) / ((n - 1) * m)
    without_y = xx / (n * (n - 1)) + (yy - 2 * y_self) / ((m - 1) * (m - 2)) - 2.0 * (xy - y_cross) / (n * (m - 1))
    variance = sum((len(z) - 1) * z.var() for z in (without_x, without_y))
    return float(whole), math.sqrt(variance)


def _row_sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of KID's kernel between each row of x and all other rows of x, and all rows of y: float64 [N] each."""
    inner, cross = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        own = (np.einsum("nd,nd->n", x[part], x[part]) / x.shape[1] + 1.0) ** 3
        inner[part] = ((x[part] @ x.T / x.shape[1] + 1.0) ** 3).sum(1) - own
        cross[part] = ((x[part] @ y.T / x.shape[1] + 1.0) ** 3).sum(1)
    return inner, cross


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
