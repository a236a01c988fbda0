"""Kernel distances of two sets of features: squared maximum mean discrepancy (Gretton et al. 2012), in float64.

kid   k(x, y) = (x.y / d + 1)^3, without bias (Binkowski et al., Demystifying MMD GANs, 2018)
jedi  k(x, y) = (x.y / d)^2, with the diagonal, times 100 (Luo et al., Beyond FVD, 2024)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vidar.eval.frechet import Owners, rows_of
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


def kid(real: np.ndarray, fake: np.ndarray, owners: Owners | None = None, paired: bool = False) -> tuple[float, float]:
    """The distance with KID's kernel over all clips, without bias, and its standard error by the jackknife.

    owners: the video of each clip, if several belong to one; the jackknife then leaves out whole videos. paired: row n
    of both sets is made from the same clip; pairs of a clip with itself do not count (Gretton et al., eq. 4), and both
    owners are equal. Binkowski et al. average the distance over 100 random subsets of 1,000, which estimates the same
    value. Choice: all clips and the jackknife, because subsets of one small set overlap, and their spread says nothing
    about other clips. Raises UsageError as `mmd2`, and for fewer than 3 clips or 2 videos on a side.
    """
    x, y = _checked(real, fake)
    of_x, of_y = owners or (np.arange(len(x)), np.arange(len(y)))
    if min(len(x), len(y)) < 3 or min(len(np.unique(of_x)), len(np.unique(of_y))) < 2:
        raise UsageError(f"kid needs 3 clips of 2 videos or more on each side, there are {len(x)} and {len(y)} clips")
    (x_self, x_cross), (y_self, y_cross) = _row_sums(x, y), _row_sums(y, x)
    if paired:
        same = 2.0 * _kernel(x, y)
        return _jackknife(x_self + y_self - x_cross - y_cross + same, x, y, rows_of(of_x))
    n, m, xx, yy, xy = len(x), len(y), x_self.sum(), y_self.sum(), x_cross.sum()

    def whole(xx: float, n: int, yy: float, m: int, xy: float) -> float:
        return float(xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2.0 * xy / (n * m))

    without_x = [
        whole(xx - 2 * x_self[rows].sum() + _inner(x[rows], x[rows]), n - len(rows), yy, m, xy - x_cross[rows].sum())
        for rows in rows_of(of_x)
    ]
    without_y = [
        whole(xx, n, yy - 2 * y_self[rows].sum() + _inner(y[rows], y[rows]), m - len(rows), xy - y_cross[rows].sum())
        for rows in rows_of(of_y)
    ]
    variance = sum((len(values) - 1) * float(np.var(values)) for values in (without_x, without_y))
    return whole(xx, n, yy, m, xy), math.sqrt(variance)


def _jackknife(sums: np.ndarray, x: np.ndarray, y: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean and error of h(i, j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i); sums: over j, without i."""
    n, total = len(sums), float(sums.sum())
    without = list[float]()
    for rows in groups:
        own = _inner(x[rows], x[rows]) + _inner(y[rows], y[rows]) - 2.0 * _inner(x[rows], y[rows])
        left = n - len(rows)
        without.append((total - 2.0 * float(sums[rows].sum()) + own) / (left * (left - 1)))
    return total / (n * (n - 1)), math.sqrt((len(without) - 1) * float(np.var(without)))


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """KID's kernel of each row with the same row of the other: [N]."""
    return (np.einsum("nd,nd->n", a, b) / a.shape[1] + 1.0) ** 3


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of KID's kernel over the pairs of different numbers of rows."""
    kernel = (a @ b.T / a.shape[1] + 1.0) ** 3
    return float(kernel.sum() - np.trace(kernel))


def _row_sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of KID's kernel between each row of x and all other rows of x, and all rows of y: float64 [N] each."""
    inner, cross = np.empty(len(x)), np.empty(len(x))
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        inner[part] = ((x[part] @ x.T / x.shape[1] + 1.0) ** 3).sum(1) - _kernel(x[part], x[part])
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
