"""The Frechet and kernel distances against closed forms, other implementations, and one another."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidar.eval.frechet import Moments, frechet, frechet_distance, moments
from vidar.eval.kernel_distance import jedi, kid, mmd2
from vidar.types import UsageError


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


def test_kid_of_one_distribution_is_zero_within_its_error() -> None:
    """The estimate is unbiased: over 20 pairs of samples, the mean lies within 4 standard errors of 0."""
    random = np.random.Generator(np.random.Philox(5))
    found = [mmd2(*random.normal(size=(2, 60, 8)), degree=3, coef0=1.0) for _ in range(20)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(20)
    mean, error = kid(*random.normal(size=(2, 200, 8)), subset=50, subsets=10)
    assert abs(mean) < 10 * error


def test_the_script_prints_all_distances(tmp_path: Path) -> None:
    """From two files of features; a file that holds none is one line."""
    np.save(tmp_path / "real.npy", REAL)
    np.save(tmp_path / "fake.npy", FAKE)
    (tmp_path / "text.npy").write_text("x")
    script = Path(__file__).parents[2] / "scripts" / "feature_distance.py"
    words = [sys.executable, str(script), str(tmp_path / "real.npy")]
    done = subprocess.run([*words, str(tmp_path / "fake.npy")], capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    assert made["frechet"]["distance"] == pytest.approx(24.6740126116904, rel=1e-6)
    assert made["frechet"]["real"] == 500 and made["kid"]["mean"] == pytest.approx(1.1, abs=0.2) and made["jedi"] > 0
    bad = subprocess.run([*words, str(tmp_path / "text.npy")], capture_output=True, text=True)
    assert bad.returncode == 1 and "text.npy: cannot be read" in bad.stderr and bad.stderr.count("\n") == 1
