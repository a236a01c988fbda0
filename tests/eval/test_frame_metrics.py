"""Frame metrics against closed forms, a loop oracle and printed tables."""

import math

import numpy as np
import pytest
import torch

from vidar.eval.frame_metrics import (
    MOST_DB,
    brightness,
    contrast,
    paired_interval,
    psnr,
    saturation,
    sharpness,
    ssim,
    t_quantile,
)
from vidar.types import UsageError


def noise(shape=(2, 3, 16, 14, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def constant(*values):
    """One video of one 16 x 16 frame per colour."""
    return np.stack([np.full((16, 16, 3), value, dtype=np.uint8) for value in values])[None]


def test_psnr_of_a_known_error():
    video = noise() // 2
    other = video + np.array([1, 5, 10], dtype=np.uint8)[None, :, None, None, None]
    expected = torch.tensor([10 * math.log10(255**2 / e**2) for e in (1, 5, 10)], dtype=torch.float64)
    assert torch.allclose(psnr(video, other, 255), expected.expand(2, 3))
    assert torch.allclose(psnr(other, video, 255), expected.expand(2, 3))  # no uint8 wrap-around
    scaled = psnr(video / 255.0, other / 255.0, 1.0)
    assert torch.allclose(scaled, expected.expand(2, 3))
    assert torch.equal(psnr(video, video, 255), torch.full((2, 3), MOST_DB, dtype=torch.float64))


def test_psnr_averages_the_error_before_the_logarithm():
    video = constant(100)
    half = video.copy()
    half[..., :8, :, :] += 20  # MSE 200 over the frame
    assert psnr(video, half, 255).item() == pytest.approx(10 * math.log10(255**2 / 200))


def test_ssim_of_constant_frames_is_the_luminance_term():
    c1 = (0.01 * 255) ** 2
    expected = [(2 * a * b + c1) / (a * a + b * b + c1) for a, b in ((10, 200), (50, 60), (0, 255))]
    found = ssim(constant(10, 50, 0), constant(200, 60, 255), 255)
    assert np.allclose(found.numpy(), [expected], atol=1e-9)


def test_ssim_of_itself_is_one_and_of_the_negative_is_negative():
    video = noise()
    assert torch.allclose(ssim(video, video, 255), torch.ones(2, 3, dtype=torch.float64))
    assert (ssim(video, 255 - video, 255) < 0).all()


def slow_ssim(x, y, data_range):
    """One pixel, one channel at a time, with the two-dimensional window written out."""
    window = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)])
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            for c in range(3):
                a = x[i : i + 11, j : j + 11, c].astype(float)
                b = y[i : i + 11, j : j + 11, c].astype(float)
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return np.mean(values)


def test_ssim_equals_the_slow_oracle():
    video, other = noise(seed=1), noise(seed=2)
    mixed = (0.7 * video + 0.3 * other).astype(np.uint8)
    found = ssim(torch.from_numpy(video), torch.from_numpy(mixed), 255)
    expected = [[slow_ssim(video[b, t], mixed[b, t], 255) for t in range(3)] for b in range(2)]
    assert np.allclose(found.numpy(), expected, atol=1e-10)
    assert torch.allclose(ssim(video / 255.0, mixed / 255.0, 1.0), found, atol=1e-10)


def test_sharpness_closed_forms():
    y, x = np.mgrid[0:16, 0:16]
    checker = np.repeat((255 * ((x + y) % 2)).astype(np.uint8)[..., None], 3, -1)
    ramp = np.repeat((7 * x + 3 * y).astype(np.uint8)[..., None], 3, -1)  # its Laplacian is 0
    square = np.repeat((x * x / 2.0)[..., None], 3, -1)  # its Laplacian is 1 everywhere
    assert sharpness(np.stack([checker, ramp])[None]).numpy() == pytest.approx(np.array([[1020.0**2, 0.0]]), abs=1e-6)
    assert sharpness(square[None, None]).item() == pytest.approx(0.0, abs=1e-9)
    red = np.zeros((1, 1, 16, 16, 3))
    red[..., 0] = 255.0 * ((x + y) % 2)
    assert sharpness(red).item() == pytest.approx((0.299 * 1020) ** 2)


def test_brightness_contrast_saturation_closed_forms():
    frame = np.zeros((1, 1, 4, 4, 3), dtype=np.uint8)
    frame[..., :2, :, :] = (200, 100, 100)  # the other half is black
    luma = 0.299 * 200 + 0.701 * 100
    assert brightness(frame).item() == pytest.approx(luma / 2)
    assert contrast(frame).item() == pytest.approx(luma / 2)
    assert saturation(frame).item() == pytest.approx(0.25)


def test_every_frame_stands_alone():
    video, other = noise(seed=3), noise(seed=4)
    for metric in (lambda v, o: psnr(v, o, 255), lambda v, o: ssim(v, o, 255), lambda v, _: sharpness(v)):
        whole = metric(video, other)
        assert whole.shape == (2, 3) and whole.dtype == torch.float64
        single = metric(video[1:, 2:], other[1:, 2:])
        assert torch.allclose(whole[1, 2], single[0, 0], rtol=1e-12)


@pytest.mark.parametrize(
    "freedom, value", [(1, 12.70620), (2, 4.302653), (9, 2.262157), (30, 2.042272), (10**6, 1.959966)]
)
def test_t_quantile_equals_the_printed_table(freedom, value):
    assert t_quantile(freedom) == pytest.approx(value, rel=2e-6)


def test_paired_interval_of_a_known_sample():
    b = np.array([3.0, -1.0, 4.0, 1.0, -5.0])
    mean, low, high = paired_interval(b + np.array([1.0, 2.0, 3.0, 4.0, 5.0]), b)
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half), rel=1e-6)


def test_paired_interval_covers_at_its_rate():
    """2000 samples of 6: coverage within 4 standard errors (0.0049) of 0.95."""
    draws = np.random.default_rng(0).normal(1.0, 2.0, (2000, 6))
    inside = [low < 1.0 < high for _, low, high in (paired_interval(row, np.zeros(6)) for row in draws)]
    assert abs(np.mean(inside) - 0.95) < 4 * 0.0049


def test_wrong_input_is_named():
    with pytest.raises(UsageError, match=r"\[B, T, H, W, 3\]"):
        sharpness(np.zeros((4, 4, 3)))
    with pytest.raises(UsageError, match="differ in shape"):
        psnr(noise(), noise()[:, :2], 255)
    with pytest.raises(UsageError, match="11x11"):
        ssim(noise((1, 1, 10, 16, 3)), noise((1, 1, 10, 16, 3)), 255)
    with pytest.raises(UsageError, match="at least 2"):
        paired_interval(np.zeros(1), np.zeros(1))


def test_whole_numbers_and_float64_have_the_same_bits():
    """uint8 frames are compared by whole numbers; the error is exact in both."""
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 2, 5, 33, 47, 3)).astype(np.uint8)
    assert torch.equal(psnr(a, b, 255.0), psnr(a.astype(np.float64), b.astype(np.float64), 255.0))
    assert torch.equal(psnr(a[:, :1] * 0, a[:, :1] * 0 + 255, 255.0), torch.zeros(2, 1, dtype=torch.float64))
