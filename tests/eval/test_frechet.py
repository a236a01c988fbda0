"""The Frechet and kernel distances against closed forms, other implementations, and one another."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidar.eval.frechet import Moments, frechet, frechet_distance, moments, rows_of
from vidar.eval.kernel_distance import jedi, kid, mmd2
from vidar.eval.video_distance import distances, distances_of_files
from vidar.types import UsageError, VidarError


def features(seed: int, count: int, scale: float, shift: float) -> np.ndarray:
    """float32 [count, 24] of one linear map of normal numbers."""
    random = np.random.Generator(np.random.Philox(seed))
    mix = random.normal(size=(24, 24)) / np.sqrt(24)
    return (random.normal(size=(count, 24)) @ mix * scale + shift).astype(np.float32)


REAL, FAKE = features(1, 500, 1.0, 0.0), features(2, 400, 1.5, 0.2)


@pytest.mark.parametrize("rank", [1, 20, 50])
def test_gaussians_have_the_closed_form(rank: int) -> None:
    """Covariances with common eigenvectors: |m1 - m2|^2 + sum (sqrt l1 - sqrt l2)^2, also if they are singular."""
    random = np.random.Generator(np.random.Philox(rank))
    basis = np.linalg.qr(random.normal(size=(50, 50)))[0]
    values = random.uniform(0.1, 3.0, (2, 50))
    values[0, rank:] = 0
    values[1, : 50 - rank] = 0
    means = random.normal(size=(2, 50))
    a, b = (Moments(7, mean, 7 * (basis * value) @ basis.T) for mean, value in zip(means, values))
    spread = ((np.sqrt(values[0]) - np.sqrt(values[1])) ** 2).sum()
    assert frechet(a, b) == pytest.approx(((means[0] - means[1]) ** 2).sum() + spread, rel=1e-8)
    assert frechet(a, Moments(7, means[0], b.scatter)) == pytest.approx(spread, rel=1e-8)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-12)


def test_the_number_is_that_of_cd_fvd() -> None:
    """24.6740126116904 by `FeatureStats` and the formula of `compute_fvd_from_stats` of cd-fvd 0.1.1."""
    assert frechet(Moments.of(REAL), Moments.of(FAKE)) == pytest.approx(24.6740126116904, rel=1e-6)


def test_streaming_equals_one_pass() -> None:
    """Batches of any size give the moments of all features, also far from zero."""
    far = REAL.astype(np.float64) + 1e6
    whole = Moments.of(far)
    for size in (1, 7, 499):
        parts = moments(far[start : start + size] for start in range(0, len(far), size))
        assert parts.count == whole.count
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-14)
        np.testing.assert_allclose(parts.scatter, whole.scatter, rtol=1e-6, atol=1e-6)
    near = moments(np.split(REAL, 20)), moments(np.split(FAKE, 16))
    assert frechet(*near) == pytest.approx(frechet(Moments.of(REAL), Moments.of(FAKE)), rel=1e-12)


def test_the_bias_of_small_samples_is_taken_off() -> None:
    """Two samples of one Gaussian are at distance 0; the measured value is about d (d + 5) / (2 N)."""
    random = np.random.Generator(np.random.Philox(3))
    found = [frechet_distance(*random.normal(size=(2, 400, 12)), resamples=2, seed=n) for n in range(8)]
    measured, extrapolated = (np.array([getattr(f, name) for f in found]) for name in ("distance", "unbiased"))
    assert measured.mean() == pytest.approx(12 * 17 / 800, rel=0.15)
    assert abs(extrapolated.mean()) < 3 * extrapolated.std() / np.sqrt(8) + 0.02 < measured.mean()


def test_the_interval_covers_the_true_distance() -> None:
    """At 95 % in 40 runs: fewer than 34 hits have probability 0.003, in either direction of the bias."""
    random = np.random.Generator(np.random.Philox(4))
    shift = np.array([1.0, *np.zeros(7)])
    hits = 0
    for number in range(40):
        x, y = random.normal(size=(150, 8)), random.normal(size=(150, 8)) + shift
        found = frechet_distance(x, y, resamples=60, seed=number)
        hits += found.low <= 1.0 <= found.high
    assert hits >= 34


def test_too_few_clips_are_refused() -> None:
    """With at most d clips, the covariance is singular and the number means nothing."""
    with pytest.raises(UsageError, match="24 real and 400 generated clips for 24 features"):
        frechet_distance(REAL[:24], FAKE)
    assert frechet_distance(REAL[:25], FAKE, resamples=2).real == 25
    assert frechet_distance(REAL[:95], FAKE, resamples=2).unbiased is None
    assert frechet_distance(REAL[:96], FAKE, resamples=2).unbiased is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moments([]), "no features"),
        (lambda: Moments.of(np.zeros(3)), r"features are \[3\]"),
        (lambda: Moments.of(np.array([[0.0], [np.nan]])), "row 1 is not finite"),
        (lambda: moments([np.zeros((2, 3)), np.zeros((2, 4))]), "3 and 4 columns"),
        (lambda: mmd2(REAL, FAKE[:, :3], 3, 1.0), "expected"),
        (lambda: kid(REAL, np.full((4, 24), np.inf)), "generated features: row 0"),
    ],
)
def test_bad_features_are_one_line(call: Callable[[], object], message: str) -> None:
    """Shapes and values are named."""
    with pytest.raises(UsageError, match=message):
        call()


def test_kernel_distances_are_those_of_other_implementations() -> None:
    """torch-fidelity's `mmd2` with KID's kernel on these features, and JEDi's formula written out."""
    assert mmd2(REAL[:400], FAKE, 3, 1.0) == pytest.approx(1.1384537618846764, rel=1e-9)
    x, y = REAL.astype(np.float64), FAKE.astype(np.float64)
    pairs = [np.mean([[(np.dot(p, q) / 24) ** 2 for q in b[:30]] for p in a[:30]]) for a, b in ((x, x), (y, y), (x, y))]
    assert jedi(x[:30], y[:30]) == pytest.approx(100 * (pairs[0] + pairs[1] - 2 * pairs[2]), rel=1e-9)


def slow_kid(x: np.ndarray, y: np.ndarray, paired: bool) -> float:
    """The definitions, pair by pair."""
    d = x.shape[1]
    k = lambda a, b: (float(np.dot(a, b)) / d + 1) ** 3  # noqa: E731
    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    cross = [k(x[i], y[j]) for i in range(n) for j in range(m) if not paired or i != j]
    return xx + yy - 2 * float(np.mean(cross))


@pytest.mark.parametrize("paired", [False, True])
def test_kid_and_its_jackknife_are_the_definitions(paired: bool) -> None:
    """Also where several clips belong to one video: each is left out as a whole, and the spread counts."""
    random = np.random.Generator(np.random.Philox(5))
    x = random.normal(size=(9, 4))
    y = x + 0.3 * random.normal(size=(9, 4)) if paired else random.normal(size=(7, 4)) + 0.5
    of_x = np.array([0, 0, 1, 1, 1, 2, 3, 4, 4])
    of_y = of_x if paired else np.array([0, 1, 1, 2, 2, 2, 3])
    value, error = kid(x, y, (of_x, of_y), paired)
    assert value == pytest.approx(slow_kid(x, y, paired), rel=1e-9)
    if paired:
        left = [[slow_kid(x[of_x != one], y[of_x != one], True) for one in range(5)]]
    else:
        left = [[slow_kid(x[of_x != one], y, False) for one in range(5)]]
        left += [[slow_kid(x, y[of_y != one], False) for one in range(4)]]
    assert error == pytest.approx(sum((len(v) - 1) * np.var(v) for v in left) ** 0.5, rel=1e-9)
    with pytest.raises(UsageError, match="3 clips of 2 videos"):
        kid(x, y, (np.zeros(len(x), int), of_y), paired)


def test_the_error_of_kid_is_its_spread_over_samples() -> None:
    """100 pairs of samples of two distributions: spread and mean jackknife error agree within 4 sigma, 30 %."""
    random = np.random.Generator(np.random.Philox(6))
    found = np.array([kid(random.normal(size=(60, 4)), random.normal(size=(60, 4)) + 0.7) for _ in range(100)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.3)


def test_kid_of_one_distribution_is_zero() -> None:
    """Over 40 pairs of samples the mean is within 4 standard errors of 0; a reconstruction that is exact is at 0."""
    random = np.random.Generator(np.random.Philox(7))
    found = np.array([kid(random.normal(size=(60, 8)), random.normal(size=(60, 8)))[0] for _ in range(40)])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(40)
    x = random.normal(size=(50, 8))
    assert kid(x, x, paired=True)[0] == pytest.approx(0.0, abs=1e-12)
    assert kid(x, x)[0] < -0.01  # counting a clip as its own neighbour makes a copy look better than a second sample


def test_the_bootstrap_draws_whole_videos() -> None:
    """40 copies of each of 30 clips tell as much as the 30 clips: their interval is not that of 1,200 clips."""
    random = np.random.Generator(np.random.Philox(8))
    x, y = random.normal(size=(30, 2)), random.normal(size=(30, 2)) + 1
    many, owner = [np.repeat(z, 40, axis=0) for z in (x, y)], np.repeat(np.arange(30), 40)
    wide = frechet_distance(x, y, resamples=400)
    same = frechet_distance(*many, resamples=400, owners=(owner, owner))
    narrow = frechet_distance(*many, resamples=400)
    assert same.high - same.low == pytest.approx(wide.high - wide.low, rel=0.15)
    assert narrow.high - narrow.low < 0.4 * (wide.high - wide.low)
    assert [rows.tolist() for rows in rows_of(np.array([3, 1, 3, 2]))] == [[1], [3], [0, 2]]


def test_pairs_are_drawn_together() -> None:
    """A shift by a constant: every paired resample has the same distance, others have not."""
    x = np.random.Generator(np.random.Philox(9)).normal(size=(40, 3))
    found = frechet_distance(x, x + 2.0, resamples=50, paired=True)
    assert [found.low, found.high, found.unbiased] == pytest.approx([12.0] * 3)
    other = frechet_distance(x, x + 2.0, resamples=50)  # draws x and x + 2 apart
    assert other.high - other.low > 0.5


def test_files_of_features(tmp_path: Path) -> None:
    """All distances of two files; a file that holds none is one line."""
    np.save(tmp_path / "real.npy", REAL)
    np.save(tmp_path / "fake.npy", FAKE)
    (tmp_path / "text.npy").write_text("x")
    made = distances_of_files(tmp_path / "real.npy", tmp_path / "fake.npy")
    assert made["frechet"]["distance"] == pytest.approx(24.6740126116904, rel=1e-6)
    assert made["frechet"]["real"] == 500 and made["kid"]["value"] == pytest.approx(1.1, abs=0.2) and made["jedi"] > 0
    with pytest.raises(VidarError, match=r"text.npy: cannot be read as an array"):
        distances_of_files(tmp_path / "real.npy", tmp_path / "text.npy")
    few = distances(REAL[:24], FAKE)
    assert "24 real and 400 generated clips for 24 features" in few["frechet"]["refused"] and few["kid"]["value"] > 0
