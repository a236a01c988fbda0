"""Scales, coarse to fine: next-scale prediction over an image (VAR) or over clips (InfinityStar)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Protocol, Self, cast

import torch
from pydantic import Field
from torch import Tensor

from vidar.core.grid import Grid, table_grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.relation import Relation, causal, table_rule
from vidar.orders.config import OrderConfig, Side, Size
from vidar.types import UsageError


class ClipOrderConfig(OrderConfig):
    """Base of the configs of orders over whole pyramids, scale by scale, for clips of a fixed length.

    sides: height and width of the scales, those of the tokenizer.
    """

    codes: ClassVar[str] = "pyramids"

    sides: tuple[Side, ...] = ()

    @property
    def scales(self) -> int:
        """See `OrderConfig`."""
        return len(self.sides)

    def over(self, sides: Sequence[Side]) -> Self:
        """See `OrderConfig`."""
        return self.replace(sides=tuple(sides))

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> PyramidFrames:
        """Groups of frames that are one pyramid each. The objective must be one over pyramids (`OverPyramids`)."""
        made = cast(OverPyramids, objective)
        lengths = [sizes[-1][0] for sizes in made.sizes]
        return PyramidFrames(lengths, len(made.sizes[0]), objective.latents, made.labels)


class ScaleOrderConfig(ClipOrderConfig):
    """An image is one pyramid (VAR, Infinity)."""

    def sizes(self, frames: int) -> list[tuple[Size, ...]]:
        """See `OrderConfig`. Raises UsageError for more than one latent frame."""
        if frames != 1:
            raise UsageError(f"an image model generates one latent frame, not {frames}; leave the number of frames out")
        return [tuple((1, h, w) for h, w in self.sides)]

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """See `scale_order`."""
        return scale_order(self.sizes(num_frames or 1)[0])


class ClipScaleOrderConfig(ClipOrderConfig):
    """The first latent frame is one pyramid, then every `clip` latent frames are one (InfinityStar)."""

    clip: int = Field(default=20, ge=1)

    def sizes(self, frames: int) -> list[tuple[Size, ...]]:
        """See `OrderConfig`. Raises UsageError unless the frames are the first frame and whole clips."""
        clips, rest = divmod(frames - 1, self.clip)
        if clips < 1:
            raise UsageError(
                f"{frames} latent frames are less than one clip; the first frame and a clip are {1 + self.clip}"
            )
        if rest:
            low = 1 + clips * self.clip
            raise UsageError(
                f"{frames} latent frames are not the first frame plus whole clips of {self.clip}; use {low} or "
                f"{low + self.clip}"
            )
        return [tuple((t, h, w) for h, w in self.sides) for t in (1, *[self.clip] * clips)]

    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """See `clip_scale_order`; without `num_frames`, the first frame and one clip."""
        return clip_scale_order(self.sizes(num_frames or 1 + self.clip))


class OverPyramids(Protocol):
    """The properties of an objective over pyramids that the frame map needs."""

    @property
    def sizes(self) -> Sequence[Sequence[Size]]:
        """The size of every scale of every pyramid."""
        ...

    def labels(self, number: int, latents: Tensor) -> Sequence[Tensor]:
        """Labels of the scales of pyramid `number`, by quantising its latents [.., t, n, C]."""
        ...


@dataclass(frozen=True)
class PyramidFrames:
    """Groups of frames that form one pyramid each. lengths: latent frames of each pyramid.

    latents: labels by unit -> their sum [t h w, C]. labels: number of a pyramid and latents [.., t, n, C] -> its
    labels.
    """

    lengths: Sequence[int]
    scales: int
    latents: Callable[[Mapping[int, Tensor]], Tensor]
    labels: Callable[[int, Tensor], Sequence[Tensor]]

    chained = False  # see `FrameMap`

    def group(self, unit: int) -> int:
        """See `vidar.core.frames.FrameMap`."""
        return unit // self.scales

    def units(self, group: int) -> range:
        """See `vidar.core.frames.FrameMap`."""
        return range(group * self.scales, (group + 1) * self.scales)

    def frames(self, group: int) -> range:
        """See `FrameMap`."""
        first = sum(self.lengths[:group])
        return range(first, first + self.lengths[group])

    def whole(self, frames: int) -> int:
        """See `FrameMap`."""
        return max((end for end in accumulate(self.lengths) if end <= frames), default=0)

    def spread(self, codes: Tensor) -> Tensor:
        """See `FrameMap`. Returns its input, because training quantises the frames itself."""
        return codes

    def split(self, group: int, codes: Tensor) -> dict[int, Tensor]:
        """See `FrameMap`. Returns the labels of all scales."""
        return dict(zip(self.units(group), self.labels(group, codes), strict=True))

    def join(self, group: int, codes: Mapping[int, Tensor]) -> Tensor:
        """See `FrameMap`."""
        return self.latents({unit: codes[unit] for unit in self.units(group)}).unflatten(0, (self.lengths[group], -1))


def scale_sites(sizes: Sequence[Size]) -> tuple[Tensor, Tensor]:
    """Scale number [n] and coordinates [n, 4] (s, t, y, x) of all sites of a pyramid.

    t, y and x are measured in sites of the finest scale, at the centre of the area that a coarse site covers.
    """
    finest = sizes[-1]
    numbers: list[Tensor] = []
    coords: list[Tensor] = []
    for s, size in enumerate(sizes):
        axes = [(torch.arange(n, dtype=torch.float64) + 0.5) * (m / n) - 0.5 for n, m in zip(size, finest, strict=True)]
        t, y, x = torch.meshgrid(*axes, indexing="ij")
        place = torch.stack([t, y, x], dim=-1).reshape(-1, 3)
        coords.append(torch.cat([torch.full((place.shape[0], 1), float(s), dtype=torch.float64), place], dim=1))
        numbers.append(torch.full((place.shape[0],), s))
    return torch.cat(numbers), torch.cat(coords)


def scale_order(sizes: Sequence[Size]) -> tuple[Order, Grid]:
    """One pyramid: a scale is a unit and sees all scales up to and including itself."""
    number, coord = scale_sites(sizes)
    return Order({"main": Relation(causal)}, len(sizes)), table_grid(("s", "t", "y", "x"), number, number, coord)


def clip_scale_order(clips: Sequence[Sequence[Size]]) -> tuple[Order, Grid]:
    """Several pyramids: (clip, scale) sees itself and the last scale of the previous clip (needs != sees).

    Its input is built from all earlier scales of its clip, which orders the scales into waves. The whole clip is
    conditioned on the last scale of the previous clip, which therefore comes first.
    """
    lengths = [len(clip) for clip in clips]
    clip_of = torch.repeat_interleave(torch.arange(len(clips)), torch.tensor(lengths))
    scale_of = torch.cat([torch.arange(n) for n in lengths])
    last = torch.tensor(lengths)[clip_of] - 1 == scale_of
    same = clip_of[:, None] == clip_of[None, :]
    sees = torch.eye(clip_of.shape[0], dtype=torch.bool) | ((clip_of[:, None] == clip_of[None, :] + 1) & last[None, :])
    needs = same & (scale_of[None, :] < scale_of[:, None])
    units, coords = [], []
    first, frames = 0, 0
    for clip in clips:
        number, coord = scale_sites(clip)
        units.append(number + first)
        coords.append(coord + torch.tensor([0.0, float(frames), 0.0, 0.0], dtype=torch.float64))
        first, frames = first + len(clip), frames + clip[-1][0]
    unit = torch.cat(units)
    order = Order({"main": Relation(table_rule(sees))}, first, needs=table_rule(needs))
    return order, table_grid(("s", "t", "y", "x"), unit, unit, torch.cat(coords))
