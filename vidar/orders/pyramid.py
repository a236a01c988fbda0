"""Pyramids of frames: a frame is generated coarse to fine, and a unit is one of its scales (xAR, next scale)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from vidar.core.grid import Grid
from vidar.core.order import Order
from vidar.orders.parts import PartsConfig, parts_order
from vidar.orders.scale import Side, scale_sites
from vidar.types import UsageError


class PyramidOrderConfig(PartsConfig):
    """sides: (h, w) of every scale of a frame in sites, coarse to fine; the last scale is the frame.

    window: number of past frames that a scale sees; 0: only its own frame.
    """

    sides: tuple[Side, ...] = Field(min_length=1)

    @property
    def period(self) -> int:
        """Units per frame."""
        return len(self.sides)

    def frame_sites(self, patch: int) -> PyramidSites:
        """How the code of a frame is laid out on its scales; a site is patch x patch latents."""
        return PyramidSites(self.sides, patch)

    @property
    def in_parts(self) -> bool:
        """See `OrderConfig`."""
        return True

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames whose finest scale is height x width sites; endless without `num_frames`.

        Raises UsageError if the finest scale has another size.
        """
        if self.sides[-1] != (height, width):
            last = " x ".join(map(str, self.sides[-1]))
            raise UsageError(f"order.sides: the last scale is {last}, the frames are {height} x {width} sites")
        return pyramid_order(self.sides, self.window, num_frames)


def pyramid_order(sides: Sequence[Side], window: int, num_frames: int | None = None) -> tuple[Order, Grid]:
    """Unit f K + k is scale k of frame f; a frame has the sites of all its K scales, coarse to fine.

    See `parts_order` for what sees what. Choice: all scales of a past frame are seen, as all its cells would be,
    because in training each scale has its own noise, and the coarse scales are small. Axes s t y x; positions as in
    `scale_sites`.
    """
    part, place = scale_sites([(1, *side) for side in sides])
    return parts_order(part, place, ("s", "t", "y", "x"), window, num_frames)


class PyramidSites:
    """How the code of a frame is laid out on its scales: each scale holds the frame, downscaled to its size.

    Choice: area means (torch's `area` interpolation, as in VAR) of latents, not of sites: a site is patch x patch
    latents, channels first (c p q). The last scale is the frame itself.
    """

    def __init__(self, sides: Sequence[Side], patch: int = 1) -> None:
        self.sides, self.patch = tuple(sides), patch

    def spread(self, codes: Tensor) -> Tensor:
        """Codes [.., n, C] of frames -> codes of all their scales in site order, [.., N, C], float32 or wider."""
        wide = codes.to(torch.promote_types(codes.dtype, torch.float32))
        (h, w), p = self.sides[-1], self.patch
        latents = rearrange(wide.reshape(-1, *wide.shape[-2:]), TO_LATENTS, h=h, w=w, p=p, q=p)
        scales = [F.adaptive_avg_pool2d(latents, (rows * p, columns * p)) for rows, columns in self.sides[:-1]]
        coarse = [rearrange(scale, TO_SITES, p=p, q=p) for scale in scales]
        return torch.cat([*(part.reshape(*wide.shape[:-2], *part.shape[-2:]) for part in coarse), wide], dim=-2)

    def take(self, codes: Tensor) -> Tensor:
        """The frame, which is the last scale: [.., N, C] -> [.., n, C]."""
        h, w = self.sides[-1]
        return codes[..., -h * w :, :]


TO_LATENTS = "b (h w) (c p q) -> b c (h p) (w q)"
TO_SITES = "b c (h p) (w q) -> b (h w) (c p q)"
