"""Ring: the keys and values of one relation, written in place, with a record of what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from vidar.core.layout import copied, empty_slots
from vidar.core.placement import Placement, RingShape
from vidar.types import MEMORY, PAD, Slots

FIELDS = ("site", "cell", "unit", "role", "coord")


def fields_of(slots: Slots) -> tuple[Tensor, ...]:
    """The tensors of slots, in the order of `FIELDS`."""
    return slots.site, slots.cell, slots.unit, slots.role, slots.coord


class Saved(NamedTuple):
    """What one batch row lost in one write: places long [n] of a ring, and their former content."""

    ring: str
    places: Tensor
    k: Tensor
    v: Tensor
    slots: tuple[Tensor, ...]


@dataclass(frozen=True)
class Write:
    """Where the MEMORY slots of a call are written: row, slot and place, long [n] each, sorted by row.

    spans: (first slot, first place, length) of runs if all rows of the batch agree, else None.
    """

    row: Tensor
    slot: Tensor
    place: Tensor
    spans: tuple[tuple[int, int, int], ...] | None

    @cached_property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return self.row.numel() == 0

    @cached_property
    def by_row(self) -> dict[int, Tensor]:
        """The places of each row that has any."""
        return {b: self.place[self.row == b] for b in self.row.unique().tolist()}


@dataclass
class Ring:
    """k, v: [L, B, R, K, E]; slots: what they hold, [B, R] on the CPU. placement None: a site is at its own number."""

    relation: str
    placement: Placement | None
    k: Tensor
    v: Tensor
    slots: Slots

    @classmethod
    def create(
        cls,
        relation: str,
        placement: Placement | None,
        size: int,
        batch: int,
        axes: int,
        shape: RingShape,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> Ring:
        """An empty ring."""
        sizes = (shape.layers, batch, size, shape.heads, shape.width)
        k, v = torch.zeros(sizes, dtype=dtype, device=device), torch.zeros(sizes, dtype=dtype, device=device)
        return cls(relation, placement, k, v, empty_slots(batch, size, axes))

    def places(self, slots: Slots, batch: int) -> Write:
        """The MEMORY slots of a call and their places; if two slots want the same place, the last site wins."""
        site = slots.site.expand(batch, -1)
        kept = ((slots.role == MEMORY) & (slots.cell != PAD)).expand(batch, -1)
        place = site if self.placement is None else self.placement(site, kept, self.slots)
        row, slot = torch.nonzero(kept & (place != PAD), as_tuple=True)
        key = row * self.k.shape[2] + place[row, slot]
        order = torch.argsort(site[row, slot], stable=True)
        last = torch.ones_like(order, dtype=torch.bool)
        grouped = order[torch.argsort(key[order], stable=True)]
        last[:-1] = key[grouped][1:] != key[grouped][:-1]
        chosen = grouped[last].sort().values
        row, slot = row[chosen], slot[chosen]
        return Write(row, slot, place[row, slot], _spans(row, slot, place[row, slot], batch))

    def write(self, layer: int, k: Tensor, v: Tensor, write: Write) -> None:
        """Keep the chosen slots of fresh keys and values [B, S, K, E]."""
        if write.spans is None:
            self.k[layer, write.row, write.place] = k[write.row, write.slot].to(self.k.dtype)
            self.v[layer, write.row, write.place] = v[write.row, write.slot].to(self.v.dtype)
            return
        for slot, place, length in write.spans:
            self.k[layer, :, place : place + length] = k[:, slot : slot + length]
            self.v[layer, :, place : place + length] = v[:, slot : slot + length]

    def note(self, fresh: Slots, write: Write) -> None:
        """Let the record name the new slots."""
        for held, new in zip(fields_of(self.slots), fields_of(fresh)):
            if write.spans is None:
                held[write.row, write.place] = new.expand(len(held), *new.shape[1:])[write.row, write.slot]
                continue
            for slot, place, length in write.spans:
                held[:, place : place + length] = new[:, slot : slot + length]

    def find(self, row: int, sites: Tensor) -> Tensor:
        """Places of a row that hold one of these sites."""
        hit = torch.isin(self.slots.site[row], sites) & (self.slots.cell[row] != PAD)
        return torch.nonzero(hit)[:, 0]

    def saved(self, name: str, b: int, places: Tensor) -> Saved:
        """A copy of what is at these places of a row."""
        held = tuple(part[b, places].clone() for part in fields_of(self.slots))
        return Saved(name, places, self.k[:, b, places], self.v[:, b, places], held)

    def restore(self, b: int, saved: Saved) -> None:
        """Put the saved content back."""
        self.k[:, b, saved.places] = saved.k
        self.v[:, b, saved.places] = saved.v
        for part, old in zip(fields_of(self.slots), saved.slots):
            part[b, saved.places] = old

    def picked(self, rows: Sequence[int]) -> Ring:
        """Copies of some rows."""
        pick = torch.tensor(list(rows))
        slots = Slots(*(part[pick].clone() for part in fields_of(self.slots)))
        return Ring(self.relation, self.placement, self.k[:, pick].clone(), self.v[:, pick].clone(), slots)

    def replace(self, rows: Sequence[int], source: Ring) -> None:
        """Overwrite some rows with the rows of another ring of the same shape."""
        pick = torch.tensor(list(rows))
        self.k[:, pick], self.v[:, pick] = source.k, source.v
        for held, part in zip(fields_of(self.slots), fields_of(source.slots)):
            held[pick] = part

    @staticmethod
    def stacked(rings: Sequence[Ring]) -> Ring:
        """Concatenate the rows of several rings."""
        first = rings[0]
        slots = Slots(*(torch.cat(parts) for parts in zip(*(fields_of(ring.slots) for ring in rings), strict=True)))
        k, v = torch.cat([ring.k for ring in rings], dim=1), torch.cat([ring.v for ring in rings], dim=1)
        return Ring(first.relation, first.placement, k, v, slots if len(rings) > 1 else copied(slots))


def _spans(row: Tensor, slot: Tensor, place: Tensor, batch: int) -> tuple[tuple[int, int, int], ...] | None:
    """Runs of slots that are written to runs of places in every row of the batch; None if rows differ."""
    count = row.numel() // batch
    if count * batch != row.numel():
        return None
    slots, places = slot.reshape(batch, count), place.reshape(batch, count)
    if not bool((row.reshape(batch, count) == torch.arange(batch)[:, None]).all()):
        return None
    if not bool((slots == slots[:1]).all() & (places == places[:1]).all()):
        return None
    spans: list[tuple[int, int, int]] = []
    for s, p in zip(slots[0].tolist(), places[0].tolist()):
        if spans and (s, p) == (spans[-1][0] + spans[-1][2], spans[-1][1] + spans[-1][2]):
            spans[-1] = (spans[-1][0], spans[-1][1], spans[-1][2] + 1)
        else:
            spans.append((s, p, 1))
    return tuple(spans)
