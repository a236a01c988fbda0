"""Placements: at which place of a ring buffer a site is kept, by a formula of the site or at the first free place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vidar.types import PAD, Slots


class Placement(Protocol):
    """Assigns sites to the `size` places of a ring."""

    @property
    def size(self) -> int:
        """Number of places of the ring."""
        ...

    @property
    def cycle(self) -> int | None:
        """Number of sites after which the places repeat; None if they depend on the content of the ring."""
        ...

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """Places [B, S] of the sites [B, S]; PAD where a site is not kept.

        kept: bool [B, S], True for sites that should be kept. held: current content of the ring, [B, R].
        """
        ...


class RingShape(NamedTuple):
    """The ring that a model keeps for one relation: the layers that use it, key heads K, head width E.

    A model may keep several rings of a relation, for example for groups of heads with different policies. Such a ring
    has its own name and names its relation. placement: where the ring keeps its sites; None means as the relation
    says.
    """

    layers: int
    heads: int
    width: int
    relation: str | None = None
    placement: Placement | None = None


@dataclass(frozen=True)
class CyclicPlacement:
    """A sink is kept at its own number, any other site behind the sinks modulo the remaining places."""

    size: int
    sinks: int = 0

    @property
    def cycle(self) -> int:
        """Number of places that do not belong to sinks."""
        return max(self.size - self.sinks, 1)

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """See `Placement`. A ring that consists of sinks only keeps nothing else."""
        rest = self.size - self.sinks
        behind = self.sinks + (site - self.sinks) % rest if rest else torch.full_like(site, PAD)
        return torch.where(site < self.sinks, site, behind)


class PeriodicPlacement:
    """Sites that repeat with a period; each is kept for its own number of periods, 0 for not at all.

    periods: long [n], for the sites of one period. Sites that are kept equally long are adjacent, period by period.
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
        return torch.where(self.periods[inside] > 0, place, PAD)


@dataclass(frozen=True)
class FreePlacement:
    """The first free places, for policies that evict arbitrary sites. A site that is held keeps its place.

    The places depend only on the ring's content, so a trace of the evictions determines them.
    """

    size: int
    cycle: None = None

    def __call__(self, site: Tensor, kept: Tensor, held: Slots) -> Tensor:
        """See `Placement`. Raises ValueError if there are not enough free places."""
        rows = [
            self._row(*row)
            for row in zip(site.tolist(), kept.tolist(), held.site.tolist(), held.cell.tolist(), strict=True)
        ]
        return torch.tensor(rows, dtype=torch.long).reshape(site.shape)

    def _row(self, site: Sequence[int], kept: Sequence[bool], held: Sequence[int], cell: Sequence[int]) -> list[int]:
        place = {known: n for n, known in enumerate(held) if cell[n] != PAD}
        free = [n for n in range(self.size) if cell[n] == PAD]
        new = [s for s, keeps in zip(site, kept) if keeps and s not in place]
        if len(new) > len(free):
            raise ValueError(f"{len(new)} sites for {len(free)} free places of {self.size}; evict sites first")
        place.update(zip(new, free))
        return [place[s] if keeps else PAD for s, keeps in zip(site, kept)]
