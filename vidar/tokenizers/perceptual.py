"""Perceptual distances that need no download: contrast, structure and amount of detail at several scales.

Wang, Simoncelli, Bovik, "Multi-scale structural similarity", 2003, equations 2-3 without the luminance term.

Choice: local second-order statistics instead of LPIPS (whose network would be a download) or random VGG features
(slow, with noise that depends on the seed), and a 7 x 7 box window instead of a Gaussian, which is several times
cheaper on a CPU. More in docs/notes/tokenizers.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 7
GRAIN = 0.01  # below this detail a difference counts in absolute terms, above it as a ratio: 1.3 grey levels
STRONG = 0.1  # the detail of strong patterns: 13 grey levels
STABILISER = (0.03 * 2) ** 2  # (K2 L)^2 with L = 2, the range of [-1, 1]


def structure_loss(x: Tensor, y: Tensor, num_scales: int = 3) -> Tensor:
    """Mean over scales of 1 - contrast-structure; 0 for equal inputs, at most 2.

    x, y: [B, C, T, H, W] in [-1, 1]. Scales smaller than the window are left out. Computed in float32 or wider.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    x, y = (v.to(wide).permute(0, 2, 1, 3, 4).flatten(0, 1).contiguous() for v in (x, y))
    losses = []
    for scale in range(num_scales):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        if min(x.shape[-2:]) < WINDOW:
            break
        losses.append(1 - contrast_structure(x, y).mean())
    return torch.stack(losses).mean() if losses else x.new_zeros(())


def texture_loss(x: Tensor, y: Tensor, power: float = 1.0) -> Tensor:
    """Mean difference of local detail: deviation of each Haar band in every 7 x 7 window, at two scales.

    After texture by wavelet statistics (Portilla, Simoncelli 2000). It compares how much detail of each kind there
    is, not where it is, so that detail missing from the code is painted as texture instead of being left out. Choice:
    Haar bands of luma; with the Laplacian as the only band, a checkerboard had the lowest loss. x, y: [B, C, T, H, W]
    in [-1, 1]. power: of the difference; where the code leaves the amount open, 1 is lowest at its median and 2 at
    its mean.
    """
    return _two_scales(x, y, lambda a, b: (a - b).abs().pow(power).mean())


def grain_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of log(1 + detail / GRAIN), with detail as in `texture_loss`.

    In `texture_loss` a faint grain, as on a wall of one colour, counts nothing beside strong edges and is left out;
    here a ratio counts the same everywhere. x, y: [B, C, T, H, W] in [-1, 1].
    """
    return _two_scales(x, y, lambda a, b: (torch.log1p(a / GRAIN) - torch.log1p(b / GRAIN)).square().mean())


def energy_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of (detail / STRONG)^2, with detail as in `texture_loss`.

    Where the code leaves the amount of detail open, `texture_loss` is lowest at its mean, which is below the root of
    its mean square, so the variance stays below that of real images. This loss is lowest at the mean square. x, y:
    [B, C, T, H, W] in [-1, 1].
    """
    return _two_scales(x, y, lambda a, b: ((a.square() - b.square()) / STRONG**2).square().mean())


def _two_scales(x: Tensor, y: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """compare(detail of x, detail of y) on luma, at full and at half size, summed."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x, y = (v.to(wide).permute(0, 2, 1, 3, 4).flatten(0, 1).mean(1, keepdim=True) for v in (x, y))
    first = compare(_detail(x), _detail(y))
    return first + compare(_detail(F.avg_pool2d(x, 2)), _detail(F.avg_pool2d(y, 2)))


def haar(x: Tensor) -> Tensor:
    """[N, 1, H, W] -> the undecimated horizontal, vertical and diagonal bands, [N, 3, H - 1, W - 1]."""
    top, bottom = x[..., :-1, :], x[..., 1:, :]
    total, change = top + bottom, bottom - top
    bands = (total[..., 1:] - total[..., :-1], change[..., 1:] + change[..., :-1], change[..., 1:] - change[..., :-1])
    return torch.cat(bands, 1) / 2


def laplacian(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, H - 2, W - 2], kernel (0 1 0 / 1 -4 1 / 0 1 0)."""
    inner = x[..., 1:-1, 1:-1]
    return x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * inner


def _detail(luma: Tensor) -> Tensor:
    return (F.avg_pool2d(haar(luma).square(), WINDOW, 1) + 1e-6).sqrt()


def contrast_structure(x: Tensor, y: Tensor) -> Tensor:
    """(2 sigma_xy + c) / (sigma_x^2 + sigma_y^2 + c) in every window: [B, C, H, W] -> [B, C, H - 6, W - 6]."""
    means = box(torch.cat([x, y, x * x + y * y, x * y]))
    mean_x, mean_y, squares, product = means.chunk(4)
    variance = squares - mean_x * mean_x - mean_y * mean_y
    covariance = product - mean_x * mean_y
    return (2 * covariance + STABILISER) / (variance + STABILISER)


def box(x: Tensor) -> Tensor:
    """Mean over windows, one axis after the other: [B, C, H, W] -> [B, C, H - 6, W - 6]."""
    return F.avg_pool2d(F.avg_pool2d(x, (WINDOW, 1), stride=1), (1, WINDOW), stride=1)
