"""Latents as sites: patches of a latent frame, frame-major (t, then y, then x)."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from vidar.types import UsageError


def to_sites(latent: Tensor, patch: int) -> Tensor:
    """[B, C, T, H, W] -> [B, N, C p p] with N = T (H / p) (W / p). Raises UsageError if p does not divide H and W."""
    height, width = latent.shape[-2:]
    if height % patch or width % patch:
        raise UsageError(f"a latent of {height}x{width} cannot be divided into patches of {patch}; use patch 1")
    return rearrange(latent, "b c t (h p) (w q) -> b (t h w) (c p q)", p=patch, q=patch)


def from_sites(sites: Tensor, shape: Sequence[int], patch: int) -> Tensor:
    """Inverse of `to_sites`: [B, N, C p p] -> [B, C, T, H, W]. shape: the latent's (T, H, W).

    Raises UsageError if p does not divide H and W.
    """
    _, height, width = shape
    if height % patch or width % patch:
        raise UsageError(f"a latent of {height}x{width} cannot be divided into patches of {patch}; use patch 1")
    grid = {"h": height // patch, "w": width // patch}
    return rearrange(sites, "b (t h w) (c p q) -> b c t (h p) (w q)", p=patch, q=patch, **grid)
