"""Placements: which place of a ring a site is kept at. A formula of the site, or the first place that is free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vidar.types import NOBODY, Slots


class Placement(Protocol):
    """Where a ring of `size` places keeps its sites."""

    @property
    def size(self) -> int:
        """Places of the ring."""
        ...

    @property
    def cycle(self) -> int | None:
        """Sites after which the places come again; None where they depend on what is held."""
        ...

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """site, kept [B, S]: those with True are to be kept; held [B, R] -> places [B, S], NOBODY: not kept."""
        ...


class RingShape(NamedTuple):
    """What a model keeps for one relation: layers that use it, key heads K, head width E.

    A model may keep several rings of a relation, as for classes of heads with policies of their own: then the ring has
    a name of its own and says which relation it is of. placement: where it keeps its sites, None: as the relation says.
    """

    layers: int
    heads: int
    width: int
    relation: str | None = None
    placement: Placement | None = None


@dataclass(frozen=True)
class CyclicPlacement:
    """A sink at its own number, any other site behind the sinks, modulo the rest of the ring."""

    size: int
    sinks: int = 0

    @property
    def cycle(self) -> int:
        """The places that are not sinks'."""
        return max(self.size - self.sinks, 1)

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """See `Placement`. A ring of sinks alone keeps nothing else."""
        rest = self.size - self.sinks
        behind = self.sinks + (site - self.sinks) % rest if rest else torch.full_like(site, NOBODY)
        return torch.where(site < self.sinks, site, behind)


class PeriodicPlacement:
    """Sites that come again with a period, each kept for a number of periods of its own, 0: not at all.

    periods: long [n], of the sites of one period. Sites kept equally long lie side by side, period by period.
    """

    def __init__(self, periods: Tensor) -> None:
        self.periods = periods
        self._base, self._row = torch.zeros_like(periods), torch.zeros_like(periods)
        self._width = torch.ones_like(periods)
        self.size = 0
        for count in periods.unique().tolist():
            index = torch.nonzero(periods == count)[:, 0]
            self._base[index], self._width[index] = self.size, len(index)
            self._row[index] = torch.arange(len(index))
            self.size += count * len(index)
        self.cycle: int | None = len(periods) * math.lcm(*periods.clamp(min=1).unique().tolist())

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """See `Placement`."""
        period, inside = site // len(self.periods), site % len(self.periods)
        turn = period % self.periods[inside].clamp(min=1)
        place = self._base[inside] + turn * self._width[inside] + self._row[inside]
        return torch.where(self.periods[inside] > 0, place, NOBODY)


@dataclass(frozen=True)
class FreePlacement:
    """The first places that are free: for policies that evict sites of their choice. A site that is held stays.

    It depends on what is held alone, so a trace of the evictions is a trace of the places.
    """

    size: int
    cycle: None = None

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """See `Placement`. Raises ValueError where the places that are free do not suffice."""
        rows = [
            self._row(*row)
            for row in zip(site.tolist(), kept.tolist(), held.site.tolist(), held.cell.tolist(), strict=True)
        ]
        return torch.tensor(rows, dtype=torch.long).reshape(site.shape)

    def _row(self, site: Sequence[int], kept: Sequence[bool], held: Sequence[int], cell: Sequence[int]) -> list[int]:
        place = {known: n for n, known in enumerate(held) if cell[n] != NOBODY}
        free = [n for n in range(self.size) if cell[n] == NOBODY]
        new = [s for s, keeps in zip(site, kept) if keeps and s not in place]
        if len(new) > len(free):
            raise ValueError(f"{len(new)} sites for {len(free)} free places of {self.size}; evict before they come")
        place.update(zip(new, free))
        return [place[s] if keeps else NOBODY for s, keeps in zip(site, kept)]
