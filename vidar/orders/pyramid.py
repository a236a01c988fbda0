"""Pyramids of frames: a frame is made coarse to fine, a unit is one of its scales (xAR's next scale)."""

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
    """sides: (h, w) of every scale of a frame, in sites, coarse to fine; the last is the frame. window: frames that a
    scale sees before its own, 0: every frame by itself.
    """

    sides: tuple[Side, ...] = Field(min_length=1)

    @property
    def period(self) -> int:
        """Units of a frame."""
        return len(self.sides)

    def frame_sites(self, patch: int) -> PyramidSites:
        """The contents of the scales, for sites of patch x patch latents."""
        return PyramidSites(self.sides, patch)

    @property
    def in_parts(self) -> bool:
        """See `OrderConfig`."""
        return True

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames whose finest scale is height x width sites; endless without `num_frames`.

        Raises UsageError where the scales end at another size.
        """
        if self.sides[-1] != (height, width):
            last = " x ".join(map(str, self.sides[-1]))
            raise UsageError(f"order.sides: the last scale is {last}, the frames are {height} x {width} sites")
        return pyramid_order(self.sides, self.window, num_frames)


def pyramid_order(sides: Sequence[Side], window: int, num_frames: int | None = None) -> tuple[Order, Grid]:
    """Unit f K + k is scale k of frame f; a frame has the sites of all its K scales, coarse to fine.

    Who sees whom: see `parts_order`. Choice: so all scales of an older frame are seen, as all its cells would be: in
    training each has noise of its own, and the coarse ones are few. Axes s t y x; places as in `scale_sites`.
    """
    part, place = scale_sites([(1, *side) for side in sides])
    return parts_order(part, place, ("s", "t", "y", "x"), window, num_frames)


class PyramidSites:
    """How the code of a frame lies on the sites of its scales: each holds the frame, scaled down to its size.

    Choice: means over areas (torch's `area`, as VAR scales down), of latents, not of sites: a site is patch x patch
    latents, channels first (c p q). The frame itself is the last scale.
    """

    def __init__(self, sides: Sequence[Side], patch: int = 1) -> None:
        self.sides, self.patch = tuple(sides), patch

    def spread(self, codes: Tensor) -> Tensor:
        """Codes [.., n, C] of frames -> those of all their scales, in site order, [.., N, C], float32 or wider."""
        wide = codes.to(torch.promote_types(codes.dtype, torch.float32))
        (h, w), p = self.sides[-1], self.patch
        latents = rearrange(wide.reshape(-1, *wide.shape[-2:]), TO_LATENTS, h=h, w=w, p=p, q=p)
        scales = [F.adaptive_avg_pool2d(latents, (rows * p, columns * p)) for rows, columns in self.sides[:-1]]
        coarse = [rearrange(scale, TO_SITES, p=p, q=p) for scale in scales]
        return torch.cat([*(part.reshape(*wide.shape[:-2], *part.shape[-2:]) for part in coarse), wide], dim=-2)

    def take(self, codes: Tensor) -> Tensor:
        """The frame: the last scale, [.., N, C] -> [.., n, C]."""
        h, w = self.sides[-1]
        return codes[..., -h * w :, :]


TO_LATENTS = "b (h w) (c p q) -> b c (h p) (w q)"
TO_SITES = "b c (h p) (w q) -> b (h w) (c p q)"
