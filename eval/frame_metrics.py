"""Metrics of single frames: fidelity to a reference (PSNR, SSIM), sharpness, brightness, contrast, colour.

Videos are [B, T, H, W, 3], uint8 or float, tensors or arrays; results are float64 [B, T]. Everything is computed in
float64 and one video at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidar.types import UsageError

Video = Tensor | np.ndarray
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
MOST_DB = 10.0 * math.log10(12 * 255**2)  # 58.9: the error of rounding to 8 bits, variance 1/12


def psnr(video: Video, reference: Video, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio per frame in dB: 10 log10(R^2 / MSE), over pixels and channels, R = `data_range`.

    Choice: at most 58.9 dB, the PSNR of rounding to 8 bits. Where a player stands still, repeating the previous frame
    is exact; with a limit of 100 dB, the one frame in ten that does so would dominate every mean.
    """
    frames, references = _pair(video, reference)
    if frames.dtype == references.dtype == torch.uint8:
        error = torch.stack([_whole_error(f, r) for f, r in zip(frames, references)])
    else:
        error = torch.stack([(f - r).square().mean((1, 2, 3)) for f, r in zip(_each(frames), _each(references))])
    decibel = 10.0 * (2.0 * math.log10(data_range) - torch.log10(error))
    return decibel.clamp(max=MOST_DB)


def ssim(video: Video, reference: Video, data_range: float) -> Tensor:
    """Structural similarity per frame, in [-1, 1] (Wang et al. 2004, eq. 13).

    Gaussian window of 11x11 with sigma 1.5, k1 = 0.01, k2 = 0.03, population moments, each channel separately, mean
    over the channels and over the pixels whose window lies inside the frame, as in torchmetrics 1.9's default. Raises
    UsageError for frames smaller than the window.
    """
    frames, references = _pair(video, reference)
    if min(frames.shape[2:4]) < 11:
        raise UsageError(f"ssim needs frames of at least 11x11 pixels, got {tuple(frames.shape[2:4])}")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    result = []
    for f, r in zip(_each(frames), _each(references)):
        x, y = rearrange(f, "T H W C -> (T C) 1 H W"), rearrange(r, "T H W C -> (T C) 1 H W")
        mx, my, xx, yy, xy = (_blur(z) for z in (x, y, x * x, y * y, x * y))
        structure = (2.0 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
        luminance = (2.0 * mx * my + c1) / (mx * mx + my * my + c1)
        result.append(rearrange(luminance * structure, "(T C) 1 H W -> T (C H W)", T=len(f)).mean(1))
    return torch.stack(result)


def sharpness(video: Video) -> Tensor:
    """Variance of the Laplacian (0 1 0 / 1 -4 1 / 0 1 0) of luma over the inner pixels (Pech-Pacheco et al. 2000)."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    frames = _check(video)
    edges = [F.conv2d(_luma(f)[:, None], kernel.to(f.device)[None, None]) for f in _each(frames)]
    return torch.stack([e.var((1, 2, 3), correction=0) for e in edges])


def brightness(video: Video) -> Tensor:
    """Mean luma, in the units of the video."""
    return torch.stack([_luma(f).mean((1, 2)) for f in _each(_check(video))])


def contrast(video: Video) -> Tensor:
    """Standard deviation of luma over the pixels (RMS contrast), in the units of the video."""
    return torch.stack([_luma(f).std((1, 2), correction=0) for f in _each(_check(video))])


def saturation(video: Video) -> Tensor:
    """Mean HSV saturation, (max - min) / max over the channels, in [0, 1]; 0 for black."""
    result = []
    for frames in _each(_check(video)):
        high, low = frames.amax(-1), frames.amin(-1)
        result.append(torch.where(high > 0, (high - low) / high.clamp(min=1e-12), 0.0).mean((1, 2)))
    return torch.stack(result)


def paired_interval(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> tuple[float, float, float]:
    """Mean of a - b and its 95 % Student-t interval: (mean, low, high).

    a, b: one value per independent unit, [N] with N >= 2, in the same order. Frames of one video are not independent;
    average over them first. Raises UsageError for unequal lengths or fewer than 2 values.
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (a, b))
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise UsageError(f"paired_interval needs two equal lists of at least 2 values, got {x.shape} and {y.shape}")
    difference = x - y
    mean = float(difference.mean())
    half = t_quantile(len(x) - 1) * float(difference.std(ddof=1)) / math.sqrt(len(x))
    return mean, mean - half, mean + half


@cache
def t_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t. With t = sqrt(n) tan(angle) its density is cos(angle)^(n - 1)."""
    widest = min(math.pi / 2, 12.0 / math.sqrt(freedom))
    angle = np.linspace(0.0, widest, 100_001)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(0.95 * mass[-1], mass, angle)))


def _check(video: Video) -> Tensor:
    frames = torch.as_tensor(video)
    if frames.ndim != 5 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UsageError(f"frame metrics need videos [B, T, H, W, 3], got {tuple(frames.shape)}")
    return frames


def _pair(video: Video, reference: Video) -> tuple[Tensor, Tensor]:
    frames, references = _check(video), _check(reference)
    if frames.shape != references.shape:
        raise UsageError(f"video {tuple(frames.shape)} and reference {tuple(references.shape)} differ in shape")
    return frames, references


def _each(videos: Tensor) -> Iterator[Tensor]:
    """One video at a time, float64 [T, H, W, 3]."""
    return (video.double() for video in videos)


def _whole_error(frames: Tensor, references: Tensor) -> Tensor:
    """uint8 [T, H, W, 3] each -> mean squared error, float64 [T]: the same bits as in float64, by whole numbers."""
    off = (frames.cpu().numpy().astype(np.int16) - references.cpu().numpy()).reshape(len(frames), -1).astype(np.int32)
    return torch.from_numpy(np.einsum("tn,tn->t", off, off, dtype=np.int64) / off.shape[1])


def _luma(frames: Tensor) -> Tensor:
    return frames @ torch.tensor(LUMA, dtype=torch.float64, device=frames.device)


def _blur(planes: Tensor) -> Tensor:
    """Gaussian of 11 taps with sigma 1.5 in both directions, [N, 1, H, W] -> [N, 1, H - 10, W - 10]."""
    offset = torch.arange(-5, 6, dtype=torch.float64, device=planes.device)
    window = torch.exp(-0.5 * (offset / 1.5).square())
    window = window / window.sum()
    return F.conv2d(F.conv2d(planes, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))
