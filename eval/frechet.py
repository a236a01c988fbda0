"""Frechet distance of two sets of features, in float64 (Dowson, Landau 1982; FID: Heusel et al. 2017; FVD: Unterthiner
et al. 2018).

d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2. Covariances are divided by N, as in the FVD
implementations of StyleGAN-V and cd-fvd.

The last trace is computed as the sum of the singular values of A^T B with S1 = A A^T and S2 = B B^T. This form needs
only one square root of each covariance, is never complex, and stays exact for singular covariances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidar.types import UsageError

PARTS = (2, 3, 4)  # of the clips, for the extrapolation


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features. count: N; mean: float64 [d]; scatter: sum of (x - mean)(x - mean)^T, [d, d]."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> Moments:
        """Moments of features [N, d]. Raises UsageError for another shape, no rows, or values that are not finite."""
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or 0 in x.shape:
            raise UsageError(f"features are {list(x.shape)}, expected [N, d] with at least one row")
        if not np.isfinite(x).all():
            row = int(np.argmin(np.isfinite(x).all(1)))
            raise UsageError(f"features: row {row} is not finite; the clip or the extractor is damaged")
        mean = x.mean(0)
        centred = x - mean
        return Moments(len(x), mean, centred.T @ centred)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub, LeVeque 1983), without the cancellation of sums of squares."""
        if self.mean.shape != other.mean.shape:
            raise UsageError(
                f"features have {len(self.mean)} and {len(other.mean)} columns; use one extractor for both"
            )
        count = self.count + other.count
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        between = np.outer(step, step) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """float64 [d, d], divided by N."""
        return self.scatter / self.count


def moments(batches: Iterable[np.ndarray]) -> Moments:
    """Moments of features that arrive in batches [n, d]; no batch is kept. Raises UsageError if there is none."""
    total: Moments | None = None
    for batch in batches:
        found = Moments.of(batch)
        total = found if total is None else total + found
    if total is None:
        raise UsageError("no features; give at least one clip")
    return total


def frechet(a: Moments, b: Moments) -> float:
    """Squared Frechet distance of the Gaussians with these moments, at least 0."""
    if a.mean.shape != b.mean.shape:
        raise UsageError(f"features have {len(a.mean)} and {len(b.mean)} columns; use one extractor for both sets")
    step = a.mean - b.mean
    cross = np.linalg.svd(_root(a.covariance).T @ _root(b.covariance), compute_uv=False).sum()
    return max(0.0, float(step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross))


@dataclass(frozen=True)
class FrechetResult:
    """distance: with all clips. low, high: 95 % bootstrap interval. unbiased: extrapolated to infinitely many clips.

    unbiased is None for fewer than 4 d clips, as a quarter of them would not be above d.

    real, fake: numbers of clips. columns: number of features d.
    """

    distance: float
    low: float
    high: float
    unbiased: float | None
    real: int
    fake: int
    columns: int


Owners = tuple[np.ndarray, np.ndarray]  # the video of each clip of both sides, whole numbers [N] and [M]


def frechet_distance(
    real: np.ndarray,
    fake: np.ndarray,
    resamples: int = 200,
    seed: int = 0,
    owners: Owners | None = None,
    paired: bool = False,
) -> FrechetResult:
    """The distance of features [N, d] and [M, d] with its interval and its value without the bias of small samples.

    The bias of the distance is about c / N (for two samples of one Gaussian d (d + 5) / (2 N) if N is much larger than
    d). `unbiased` is the intercept of the regression of the distance on 1 / N over N, N/2, N/3, N/4 (FVD_inf; Chong,
    Forsyth 2020), None for fewer than 4 d clips: the bias of parts of at most d clips does not fall as 1 / N, so that
    two samples of one Gaussian would seem apart (docs/notes/evaluation.md). The bootstrap draws clips with replacement
    from both sets, or videos with all their clips if `owners` tells which clips belong together; a sample of a sample
    adds the bias a second time, so the interval is the basic one, 2 D - quantile, cut at 0. It can lie below the
    distance, which has the bias. paired: row n of both sets is made from the same clip, so that they are drawn
    together.

    Raises UsageError for N or M of at most d clips: their covariance has rank below d and the bias is larger than the
    distances of interest.
    """
    a, b = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    everything = Moments.of(a), Moments.of(b)
    columns = a.shape[1]
    if min(len(a), len(b)) <= columns:
        raise UsageError(
            f"{len(a)} real and {len(b)} generated clips for {columns} features: a Frechet distance needs more "
            "clips than features; give more clips, or report the kernel distance (kid), which has no such bias"
        )
    distance = frechet(*everything)
    random = np.random.Generator(np.random.Philox(seed))
    of_a, of_b = owners or (np.arange(len(a)), np.arange(len(b)))
    drawn = list[float]()
    for _ in range(resamples):
        rows = _drawn(of_a, random)
        drawn.append(frechet(Moments.of(a[rows]), Moments.of(b[rows if paired else _drawn(of_b, random)])))
    low, high = (max(0.0, 2.0 * distance - float(np.quantile(drawn, q))) for q in (0.975, 0.025))
    order, enough = random.permutation(len(a)), min(len(a), len(b)) >= PARTS[-1] * columns
    unbiased = (
        None if not enough else _extrapolated(a[order], b[order if paired else random.permutation(len(b))], distance)
    )
    return FrechetResult(distance, low, high, unbiased, len(a), len(b), columns)


def rows_of(owner: np.ndarray) -> list[np.ndarray]:
    """The rows of each owner."""
    ends = np.cumsum(np.unique(owner, return_counts=True)[1])
    return np.split(np.argsort(owner, kind="stable"), ends[:-1])


def _drawn(owner: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The rows of owners that are drawn with replacement, as many as there are."""
    rows = rows_of(owner)
    return np.concatenate([rows[k] for k in random.integers(0, len(rows), len(rows))])


def _extrapolated(a: np.ndarray, b: np.ndarray, whole: float) -> float:
    """Intercept of the distance against 1 / N; a part k of N clips is k disjoint sets, whose mean distance counts."""
    inverse, found = [1.0], [whole]
    for parts in PARTS:
        n, m = len(a) // parts, len(b) // parts
        pairs = ((a[p * n : (p + 1) * n], b[p * m : (p + 1) * m]) for p in range(parts))
        inverse.append(float(parts))
        found.append(float(np.mean([frechet(Moments.of(x), Moments.of(y)) for x, y in pairs])))
    return float(np.polyfit(inverse, found, 1)[1])


def _root(covariance: np.ndarray) -> np.ndarray:
    """A [d, d] with A A^T = covariance. Eigenvalues at the rounding error become 0: their root would not be small."""
    values, vectors = np.linalg.eigh(covariance)
    values[values < len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)] = 0.0
    return vectors * np.sqrt(values)
