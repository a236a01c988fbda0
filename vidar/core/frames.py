"""FrameMap: which units hold which frames, and how codes of frames become codes of units. Nothing else counts units.

Frames come in groups that are generated from one start: a single frame, a block of frames, or a segment of a plan. A
group consists of whole units; a frame may consist of several units (cells, scales) or be a part of one (blocks).

    units of a frame     0 | 1 | 2     blocks of two frames     0 0 | 1 1     four cells     0 1 2 3 | 4 5 6 7
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from vidar.core.grid import Grid


class FrameMap(Protocol):
    """The mapping between frames and units.

    Codes of frames are float [.., F, n, C], as a tokenizer makes them per frame.
    """

    @property
    def chained(self) -> bool:
        """Whether a finite order makes one group, and the next group begins from the last frames of it."""
        ...

    def group(self, unit: int) -> int:
        """The group that contains this unit."""
        ...

    def units(self, group: int) -> range:
        """The units of a group."""
        ...

    def frames(self, group: int) -> range:
        """The frames of a group."""
        ...

    def whole(self, frames: int) -> int:
        """How many of the last `frames` frames of a context can be continued: those that fill whole groups."""
        ...

    def spread(self, codes: Tensor) -> Tensor:
        """Codes of frames [.., n, C] -> codes of all their sites in site order, [.., N, C], as training needs them."""
        ...

    def split(self, group: int, codes: Tensor) -> dict[int, Tensor]:
        """Codes [.., F, n, C] of the frames of a group -> codes by unit, for the units that a context supplies."""
        ...

    def join(self, group: int, codes: Mapping[int, Tensor]) -> Tensor:
        """The inverse of `split`: codes by unit of a group -> codes of its frames, [F, n, C]."""
        ...


class FrameSites(Protocol):
    """How the code of one frame is laid out on the sites of its units."""

    def spread(self, codes: Tensor) -> Tensor:
        """Codes [.., n, C] of frames -> codes of the sites of their units in site order, [.., N, C]."""
        ...

    def take(self, codes: Tensor) -> Tensor:
        """The inverse of `spread`: [.., N, C] -> [.., n, C]."""
        ...


class EverySite:
    """A frame whose places are exactly the sites of its units: `spread` and `take` return their input."""

    def spread(self, codes: Tensor) -> Tensor:
        """Return `codes` unchanged."""
        return codes

    def take(self, codes: Tensor) -> Tensor:
        """Return `codes` unchanged."""
        return codes


@dataclass(frozen=True)
class EvenFrames:
    """Groups of `per_group` frames in `num_units` units each.

    Units hold their sites in any order, the same in each group.

    sites: the layout of one frame on the sites of its units; in a group of several frames the layouts follow one
    another.
    """

    grid: Grid
    per_group: int = 1
    num_units: int = 1
    sites: FrameSites = EverySite()

    chained = False  # see `FrameMap`

    def group(self, unit: int) -> int:
        """See `FrameMap`."""
        return unit // self.num_units

    def units(self, group: int) -> range:
        """See `FrameMap`."""
        return range(group * self.num_units, (group + 1) * self.num_units)

    def frames(self, group: int) -> range:
        """See `FrameMap`."""
        return range(group * self.per_group, (group + 1) * self.per_group)

    def whole(self, frames: int) -> int:
        """See `FrameMap`."""
        return frames // self.per_group * self.per_group

    def spread(self, codes: Tensor) -> Tensor:
        """See `FrameMap`."""
        return self.sites.spread(codes)

    def split(self, group: int, codes: Tensor) -> dict[int, Tensor]:
        """See `FrameMap`."""
        sites = {unit: self.grid.sites(unit) for unit in self.units(group)}
        codes, first = self.spread(codes).flatten(-3, -2), min(int(own.min()) for own in sites.values())
        return {unit: codes[..., own - first, :] for unit, own in sites.items()}

    def join(self, group: int, codes: Mapping[int, Tensor]) -> Tensor:
        """See `FrameMap`."""
        units = self.units(group)
        made = codes[units[0]] if len(units) == 1 else torch.cat([codes[unit] for unit in units])
        made = made if self._place is None else made[self._place]
        return self.sites.take(made.unflatten(0, (self.per_group, -1)))

    @cached_property
    def _place(self) -> Tensor | None:
        """The position of each site among the units of a group, concatenated; None if they are in order."""
        place = torch.cat([self.grid.sites(unit) for unit in self.units(0)]).argsort()
        return None if torch.equal(place, torch.arange(len(place))) else place
