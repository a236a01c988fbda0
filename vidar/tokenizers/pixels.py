"""Conversion between display video (uint8, channels last) and tokenizer video (float in [-1, 1], channels first)."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(video: Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3] -> float32 [B, 3, T, H, W] in [-1, 1]; a view, so the memory stays channels last."""
    return (video.float() / 127.5 - 1).permute(0, 4, 1, 2, 3)


def to_uint8(video: Tensor) -> Tensor:
    """Float [B, 3, T, H, W] in [-1, 1] -> uint8 [B, T, H, W, 3], rounded; values outside are clamped."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
