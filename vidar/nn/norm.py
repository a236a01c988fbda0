"""RMS norm with statistics in float32 or wider, and the affine modulation of adaLN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPSILON = 1e-6


def rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """x / rms(x) over the last axis of x [.., D] (Zhang, Sennrich 2019, eq. 4); the result has the dtype of x."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + EPSILON)
    return (normed if weight is None else normed * weight).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a gain [D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[.., D] -> [.., D]."""
        return rms_norm(x, self.weight)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """rms_norm(x) * (1 + scale) + shift (DiT's adaLN with an RMS norm); all [.., D], broadcast."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + EPSILON)
    return (normed * (1 + scale) + shift).to(x.dtype)
