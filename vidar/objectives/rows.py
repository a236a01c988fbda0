"""The rows of a training call side by side: which numbers of a clip stand in which slots, found once for a layout."""

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
Place = slice | Tensor  # numbers in a row as a slice, which copies nothing; others as long [n]
Hint = Callable[[int, Callable[[int], Tensor], Tensor], Tensor]  # see vidar.objectives.hint


def place(index: Tensor, device: torch.device) -> Place:
    """Indices long [n] on the CPU -> the same, on the device."""
    first = int(index[0]) if len(index) else 0
    if torch.equal(index, torch.arange(first, first + len(index))):
        return slice(first, first + len(index))
    return index.to(device)


class Units:
    """Some units of a grid one after another, equally large ones together: P sites in all.

    numbers: of the units, in this order. sites: where they lie in a clip [B, N, C]. number: long [P], which of the
    units a site is of.
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
        """Sites long [n] of these units -> where they stand among the P."""
        return self._place[sites]

    def normals(self, rngs: Sequence[Rng], name: str, like: Tensor) -> Tensor:
        """A standard normal draw for each unit of each row, one after another: [B, P, C], on the device of `like`."""
        made = [torch.empty(len(rngs), 0, like.shape[-1], dtype=like.dtype)] if not self._alike else []
        for n, units in self._alike.items():
            drawn = normals(every(rngs, units), name, (n, like.shape[-1]), dtype=like.dtype)
            made.append(drawn.reshape(len(rngs), -1, like.shape[-1]))
        return (made[0] if len(made) == 1 else torch.cat(made, 1)).to(like.device)


class Part(NamedTuple):
    """Slots of one kind. slots: in the call. places: what stands in them, among the sites of units. row, number: long
    [n], their modulation row, and which of the units they are of."""

    slots: Place
    places: Place
    row: Tensor
    number: Tensor


@dataclass(frozen=True)
class Rows:
    """Rows of a training call: those that only commit show their unit as others see it, of all others much is asked.

    asked     slots of what is asked, among the sites of `noised`
    commits   slots of commits, among the sites of `shown`
    hint      long [S], of which site of `shown` a slot is given the code; blank: bool [S, 1], where it is given none;
              None: no slot is given any
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
        """Of the asked slots, float64 [B, n]: of their rows as given, [B, rows], or drawn for their units."""
        device = self.asked.row.device
        if given is None:
            return draw(self.noised.numbers, rngs).to(device)[:, self.asked.number]
        return given.to(device, torch.float64)[:, self.asked.row]

    def target(self, values: Tensor) -> Target:
        """What is asked [B, n, O], in all slots."""
        batch, size = len(values), len(self.is_asked)
        if self.asked.slots != slice(0, size):
            values, some = values.new_zeros(batch, size, values.shape[-1]), values
            values[:, self.asked.slots] = some
        return Target(values, self.is_asked.to(values.dtype).expand(batch, -1))


def rows_of(layout: Layout, grid: Grid, hint: tuple[str, Hint], codes: Tensor) -> Rows:
    """The rows of a layout where the codes [B, N, C] are. hint: with a name, one for each that differs."""
    found = partial(_found, layout, grid, hint[1], codes.device)
    return once(layout, f"rows {hint[0]} {codes.device}", found)


def once(layout: Layout, key: str, make: Callable[[], Made]) -> Made:
    """What is made of a layout alone, kept in its memo; fit for autograd in any case."""
    if key not in layout.memo:
        with torch.inference_mode(False):
            layout.memo[key] = make()
    return layout.memo[key]


class SlotTables(NamedTuple):
    """Of a layout whose batch rows agree, on a device. site, unit, row: long [S]; row_start: long [M]; asked: long [n],
    the slots of rows that do not only commit."""

    site: Tensor
    unit: Tensor
    row: Tensor
    row_start: Tensor
    asked: Tensor


def slot_tables(layout: Layout, device: torch.device) -> SlotTables:
    """What methods index with, copied to the device once."""

    def made() -> SlotTables:
        asked = torch.nonzero(layout.row_step[layout.row] >= 0)[:, 0]
        parts = layout.slots.site[0], layout.slots.unit[0], layout.row, layout.row_start, asked
        return SlotTables(*(part.to(device) for part in parts))

    return once(layout, f"slots {device}", made)


def side_by_side(layout: Layout, counts: Sequence[int], device: torch.device) -> Place:
    """What stands in the slots of a layout, among the sites of units one after another: unit u has counts[u mod U]."""
    total, starts = sum(counts), [0, *accumulate(counts)]
    units = [divmod(unit, len(counts)) for unit in layout.row_unit[0].tolist()]
    firsts = [turn * total + starts[number] for turn, number in units]
    ranges = [torch.arange(first, first + counts[number]) for first, (_, number) in zip(firsts, units, strict=True)]
    return place(torch.cat(ranges), device)


def one_hot(number: int, count: int, like: Tensor) -> Tensor:
    """[count], 1 at one place, as `like`."""
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
    """By site, the site whose code its hint shows, -1 for none; and the units that hints read.

    A hint only moves codes about, so it is asked with the numbers of sites, from 1, in place of codes.
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
