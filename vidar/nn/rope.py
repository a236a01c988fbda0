"""Rotary position embedding: coordinates -> angles -> (cos, sin). Half-split convention throughout.

Angles are computed in float64, and only the tables are cast. Channel c of E and channel c + E/2 share an angle:
rot(x) = x * cos + concat(-x[E/2:], x[:E/2]) * sin.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config

Made = TypeVar("Made")
Tables = tuple[Tensor, Tensor]  # cos, sin [.., E]
Rope = Callable[[Tensor, torch.dtype], Tables | None]  # (coordinates float64 [.., A], dtype) -> tables
MM_GROUP = 16  # number of rotation pairs after which the assignment of MM-RoPE repeats
MM_OWNER = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2])  # t 4 : h 6 : w 6


def frequencies(width: int, base: float) -> Tensor:
    """theta_i = base^(-2 i / width), float64 [width / 2]; do not modify it. Raises ValueError for an odd width."""
    if width % 2:
        raise ValueError(f"rotary width {width} is odd; pairs of channels rotate together")
    return _once(_frequencies, width, base)


def _frequencies(width: int, base: float) -> Tensor:
    return base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def _once(make: Callable[..., Made], *key: Hashable) -> Made:
    """make(*key), cached, but recomputed for tensors without storage (meta device, memory estimates)."""
    stored = torch.get_default_device().type == "cpu" and not _dispatch_modes()
    return _kept(make, *key) if stored else make(*key)


def _dispatch_modes() -> int:
    """Number of active torch dispatch modes; torch has no public function for it."""
    return torch._C._len_torch_dispatch_stack()  # pyright: ignore[reportPrivateUsage]


@cache
def _kept(make: Callable[..., Any], *key: Hashable) -> Any:
    with torch.inference_mode(False):
        return make(*key)


def _tables(angles: Tensor, dtype: torch.dtype) -> Tables:
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)


def rope_nd(
    coords: Tensor, head_width: int, split: Sequence[int], base: float = 10000.0, dtype: torch.dtype = torch.float32
) -> Tables:
    """Coordinates [.., A] -> (cos, sin) [.., E]; axis a has split[a] channels with frequencies of its own.

    Raises ValueError if `split` does not fit the axes or the head.
    """
    if len(split) != coords.shape[-1] or sum(split) != head_width:
        raise ValueError(
            f"split {tuple(split)} must have {coords.shape[-1]} axes and add up to head_width {head_width}"
        )
    return _banded(coords, dtype, tuple(range(len(split))), tuple(split), (base,) * len(split), frequencies)


def _banded(
    coords: Tensor,
    dtype: torch.dtype,
    columns: tuple[int, ...],
    first: tuple[int, ...],
    second: tuple[Any, ...],
    band: Callable[[int, Any], Tensor],
) -> Tables:
    """Coordinates [.., A] -> tables.

    Each column turns its own channel pairs with the frequencies band(first, second).
    """
    column, theta = _once(_bands, columns, first, second, band)
    return _tables(coords.to(torch.float64).index_select(-1, column) * theta, dtype)


def _bands(
    columns: tuple[int, ...], first: tuple[int, ...], second: tuple[Any, ...], band: Callable[[int, Any], Tensor]
) -> tuple[Tensor, Tensor]:
    bands = [band(a, b) for a, b in zip(first, second, strict=True)]
    column = [number for number, own in zip(columns, bands, strict=True) for _ in range(len(own))]
    return torch.tensor(column), torch.cat(bands)


def mm_rope(coords: Tensor, head_width: int, base: float = 10000.0, dtype: torch.dtype = torch.float32) -> Tables:
    """MM-RoPE (Lumos-1): scaled coordinates (t, h, w) [.., 3] -> (cos, sin) [.., E].

    All axes share the full-width frequencies. Frequency i belongs to t, h or w according to i mod 16, so that every
    axis has high and low frequencies. Equal coordinates give plain 1D RoPE. Raises ValueError if head_width is not a
    multiple of 32.
    """
    _check_mm(head_width)
    owner = MM_OWNER.repeat(head_width // (2 * MM_GROUP))
    return _tables(coords.to(torch.float64)[..., owner] * frequencies(head_width, base), dtype)


def _check_mm(head_width: int) -> None:
    if head_width % (2 * MM_GROUP):
        raise ValueError(f"head_width {head_width} is not a multiple of {2 * MM_GROUP}, which MM-RoPE needs")


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [B, S, K, E] by tables [B or 1, S, E]; computed in float32 or wider, result in the dtype of x."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    low, high = wide.chunk(2, dim=-1)
    turned = torch.cat([-high, low], dim=-1)
    return (wide * cos[..., None, :] + turned * sin[..., None, :]).to(x.dtype)


class RopeConfig(Config):
    """Base class of the configs of rotary embeddings. axes: names of the grid axes that rotate channels."""

    axes: tuple[str, ...] = ("t", "y", "x")

    @abstractmethod
    def build(self, axes: Sequence[str], head_width: int) -> Rope:
        """The rotation for coordinates with these axes. Raises ValueError if axes or head width do not fit."""


class MMRopeConfig(RopeConfig):
    """MM-RoPE over three named axes (Lumos-1)."""

    axes: tuple[str, str, str] = ("t", "y", "x")
    base: float = Field(default=10000.0, gt=1)

    def build(self, axes: Sequence[str], head_width: int) -> Rope:
        """Raises ValueError for a head width or axes that do not fit."""
        _check_mm(head_width)
        columns = _columns(self.axes, axes)
        return lambda coords, dtype: mm_rope(coords[..., columns], head_width, self.base, dtype)


class AxialRopeConfig(RopeConfig):
    """One band of channels per axis, for any number of named axes; with one axis it is plain 1D RoPE.

    split: channels of each axis, adding up to the head width; None: as even as channel pairs allow.
    """

    axes: tuple[str, ...] = ("t", "y", "x")
    split: tuple[int, ...] | None = None
    base: float = Field(default=10000.0, gt=1)

    def build(self, axes: Sequence[str], head_width: int) -> Rope:
        """Raises ValueError for axes or a split that do not fit."""
        columns = _columns(self.axes, axes)
        split = even_split(head_width, len(self.axes)) if self.split is None else self.split
        rope_nd(torch.zeros(1, len(columns)), head_width, split, self.base)
        told = tuple(columns), split, (self.base,) * len(split), frequencies
        return lambda coords, dtype: _banded(coords, dtype, *told)


class LengthRopeConfig(RopeConfig):
    """RoPE-ND (ACDiT, arXiv 2412.07720): each axis has its own base, which depends on the number of sites along it.

    lengths: L of each axis; base 100 (floor(8 L / pi / 100) + 1) as in its code. parts: shares of the head. The
    frequencies of an axis fall evenly from 1 to 1 / base, both included. Each axis rotates its own channel pairs,
    where the released code mixes two axes in a pair.
    """

    axes: tuple[str, ...] = ("t", "y", "x")
    lengths: tuple[int, ...]
    parts: tuple[int, ...] = (2, 3, 3)

    def build(self, axes: Sequence[str], head_width: int) -> Rope:
        """Raises ValueError for axes or parts that do not fit."""
        columns, total = _columns(self.axes, axes), sum(self.parts)
        if not len(self.lengths) == len(self.parts) == len(columns) or head_width % (2 * total):
            raise ValueError(
                f"rope: lengths {self.lengths} and parts {self.parts} need one number for each of {self.axes}, and "
                f"head_width {head_width} must be a multiple of {2 * total}"
            )
        counts = tuple(head_width * part // total // 2 for part in self.parts)
        told = tuple(columns), self.lengths, counts, length_frequencies
        return lambda coords, dtype: _banded(coords, dtype, *told)


def length_frequencies(length: int, count: int) -> Tensor:
    """base^(-i / (count - 1)), float64 [count]; base 100 (floor(8 length / pi / 100) + 1)."""
    base = 100.0 * (int(8 * length / math.pi) // 100 + 1)
    return base ** -torch.linspace(0, 1, count, dtype=torch.float64)


class NoRopeConfig(RopeConfig):
    """No rotation: positions reach the model in another way, or not at all."""

    axes: tuple[str, ...] = ()

    def build(self, axes: Sequence[str], head_width: int) -> Rope:
        """A rope that returns no tables."""
        return lambda coords, dtype: None


def even_split(head_width: int, num_axes: int) -> tuple[int, ...]:
    """Even channel counts that add up to head_width.

    The first axis (time) takes the remainder. 64, 3 -> (24, 20, 20).
    """
    each = head_width // (2 * num_axes) * 2
    return (head_width - each * (num_axes - 1), *([each] * (num_axes - 1)))


def _columns(wanted: Sequence[str], axes: Sequence[str]) -> list[int]:
    missing = [name for name in wanted if name not in axes]
    if missing:
        raise ValueError(f"rope needs axis {missing[0]!r}; the grid has {', '.join(axes)}")
    return [list(axes).index(name) for name in wanted]
