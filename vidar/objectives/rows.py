"""The rows of a training call: which values of a clip belong to which slots, computed once per layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.rng import Rng, every, normals
from vidar.types import Target

Made = TypeVar("Made")
Place = slice | Tensor  # a slice where possible, which copies nothing; otherwise long [n]
Hint = Callable[[int, Callable[[int], Tensor], Tensor], Tensor]  # see vidar.objectives.hint


def place(index: Tensor, device: torch.device) -> Place:
    """Indices long [n] on the CPU -> the same on the device, as a slice if possible."""
    first = int(index[0]) if len(index) else 0
    if torch.equal(index, torch.arange(first, first + len(index))):
        return slice(first, first + len(index))
    return index.to(device)


class Units:
    """Several units of a grid, concatenated; units of equal size are drawn together. P is the total number of sites.

    numbers: of the units, in this order. sites: their positions in a clip [B, N, C]. number: long [P], the unit of
    each site.
    """

    def __init__(self, numbers: Iterable[int], grid: Grid, device: torch.device) -> None:
        sites = {unit: grid.sites(unit) for unit in sorted(numbers)}
        sites = dict(sorted(sites.items(), key=lambda item: len(item[1])))
        self.numbers, counts = list(sites), [len(own) for own in sites.values()]
        self._alike = {n: [unit for unit, own in sites.items() if len(own) == n] for n in dict.fromkeys(counts)}
        every = torch.cat([torch.zeros(0, dtype=torch.long), *sites.values()])
        self.any_site = int(every[0]) if len(every) else 0
        self._place = torch.full((int(every.max()) + 1 if len(every) else 0,), -1)
        self._place[every] = torch.arange(len(every))
        self.sites = place(every, device)
        self.number = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long)).to(device)

    def places(self, sites: Tensor) -> Tensor:
        """Sites long [n] of these units -> their positions among the P."""
        return self._place[sites]

    def normals(self, rngs: Sequence[Rng], name: str, like: Tensor) -> Tensor:
        """A standard normal draw for each unit of each row, concatenated: [B, P, C], on the device of `like`."""
        made = [torch.empty(len(rngs), 0, like.shape[-1], dtype=like.dtype)] if not self._alike else []
        for n, units in self._alike.items():
            drawn = normals(every(rngs, units), name, (n, like.shape[-1]), dtype=like.dtype)
            made.append(drawn.reshape(len(rngs), -1, like.shape[-1]))
        return (made[0] if len(made) == 1 else torch.cat(made, 1)).to(like.device)


class Part(NamedTuple):
    """Slots of one kind. slots: their positions in the call. places: what they hold, among the sites of the units.

    row, number: long [n], the modulation row and the unit of each slot.
    """

    slots: Place
    places: Place
    row: Tensor
    number: Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of a training call: rows that only commit show their unit to others; all other rows have a loss.

    asked     slots with a loss, among the sites of `noised`
    commits   slots of commits, among the sites of `shown`
    hint      long [S]: the site of `shown` whose code is the hint of a slot; blank: bool [S, 1], where there is none;
              None: no slot has a hint
    is_asked  bool [S]
    """

    noised: Units
    shown: Units
    asked: Part
    commits: Part
    hint: Tensor | None
    blank: Tensor | None
    is_asked: Tensor

    def levels(
        self, given: Tensor | None, draw: Callable[[Sequence[int], Sequence[Rng]], Tensor], rngs: Sequence[Rng]
    ) -> Tensor:
        """Levels of the slots with a loss, float64 [B, n]: given by row, [B, rows], or drawn for their units."""
        device = self.asked.row.device
        if given is None:
            return draw(self.noised.numbers, rngs).to(device)[:, self.asked.number]
        return given.to(device, torch.float64)[:, self.asked.row]

    def target(self, values: Tensor) -> Target:
        """The target of values [B, n, O], laid out on all slots."""
        batch, size = len(values), len(self.is_asked)
        if self.asked.slots != slice(0, size):
            values, some = values.new_zeros(batch, size, values.shape[-1]), values
            values[:, self.asked.slots] = some
        return Target(values, self.is_asked.to(values.dtype).expand(batch, -1))


def rows_of(layout: Layout, grid: Grid, hint: tuple[str, Hint], codes: Tensor) -> Rows:
    """The rows of a layout, on the device of the codes [B, N, C]. hint: with a name, one for each distinct hint."""
    found = partial(_found, layout, grid, hint[1], codes.device)
    return once(layout, f"rows {hint[0]} {codes.device}", found)


def once(layout: Layout, key: str, make: Callable[[], Made]) -> Made:
    """Compute a value that depends on the layout alone once and keep it in its memo; safe for autograd."""
    if key not in layout.memo:
        with torch.inference_mode(False):
            layout.memo[key] = make()
    return layout.memo[key]


class SlotTables(NamedTuple):
    """Tables of a layout whose batch rows agree, on a device. site, unit, row: long [S]; row_start: long [M].

    asked: long [n], the slots of rows that do not only commit.
    """

    site: Tensor
    unit: Tensor
    row: Tensor
    row_start: Tensor
    asked: Tensor


def slot_tables(layout: Layout, device: torch.device) -> SlotTables:
    """The index tables that training methods need, copied to the device once."""

    def made() -> SlotTables:
        asked = torch.nonzero(layout.row_step[layout.row] >= 0)[:, 0]
        parts = layout.slots.site[0], layout.slots.unit[0], layout.row, layout.row_start, asked
        return SlotTables(*(part.to(device) for part in parts))

    return once(layout, f"slots {device}", made)


def side_by_side(layout: Layout, counts: Sequence[int], device: torch.device) -> Place:
    """What the slots of a layout hold, among the sites of concatenated units; unit u has counts[u mod U] sites."""
    total, starts = sum(counts), [0, *accumulate(counts)]
    units = [divmod(unit, len(counts)) for unit in layout.row_unit[0].tolist()]
    firsts = [turn * total + starts[number] for turn, number in units]
    ranges = [torch.arange(first, first + counts[number]) for first, (_, number) in zip(firsts, units, strict=True)]
    return place(torch.cat(ranges), device)


def one_hot(number: int, count: int, like: Tensor) -> Tensor:
    """[count], 1 at one place, with the dtype and device of `like`."""
    made = like.new_zeros(count)
    made[number] = 1
    return made


def _found(layout: Layout, grid: Grid, hint: Hint, device: torch.device) -> Rows:
    site, unit, step = layout.slots.site[0], layout.slots.unit[0], layout.row_step[layout.row]
    source, read = _sources(unit.unique().tolist(), grid, hint)
    asked, commits = (torch.nonzero(kind)[:, 0] for kind in (step >= 0, step < 0))
    noised = Units(unit[asked].unique().tolist(), grid, device)
    shown = Units({*unit[commits].tolist(), *read}, grid, device)

    def part(slots: Tensor, units: Units) -> Part:
        places = units.places(site[slots])
        where = place(places, device)
        return Part(place(slots, device), where, layout.row[slots].to(device), units.number[where])

    parts = part(asked, noised), part(commits, shown)
    if source is None or not read:
        return Rows(noised, shown, *parts, None, None, (step >= 0).to(device))
    given = source[site]
    blank = given < 0
    given = shown.places(torch.where(blank, shown.any_site, given))
    return Rows(noised, shown, *parts, given.to(device), blank[:, None].to(device), (step >= 0).to(device))


def _sources(units: Sequence[int], grid: Grid, hint: Hint) -> tuple[Tensor | None, set[int]]:
    """For each site, the site whose code its hint shows, -1 for none; and the units that hints read.

    A hint only moves codes, so it is called with site numbers, counted from 1, instead of codes.
    """
    read = set[int]()

    def committed(unit: int) -> Tensor:
        read.add(unit)
        return 1 + grid.sites(unit)[:, None]

    sites = [grid.sites(unit) for unit in units]
    made = [hint(unit, committed, torch.zeros_like(own)[:, None]) for unit, own in zip(units, sites, strict=True)]
    if not made or not made[0].shape[1]:
        return None, read
    source = torch.full((1 + max(int(own.max()) for own in sites),), -1)
    source[torch.cat(sites)] = torch.cat(made)[:, 0] - 1
    return source, read
