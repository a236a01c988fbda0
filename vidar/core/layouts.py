"""A cache of compiled layouts. In a stationary order the layout of a Step is an earlier one, shifted by whole cycles.

    clock         7    8    9   10   11   12   13   14   15     an order with a cycle of 7 units
    layout        a    b    c    d    e    f    g    a    b     a at 14: a at 7, all sites, cells and units 7 further

The shifted layout reuses the masks, attention plans and ring places of the first one. The content of the rings is
compared with the shifted earlier content: after a change of context, an eviction or a rewind to another place, a
layout is compiled anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.layout import Held, Layout, View, compile_layout
from vidar.core.order import Order
from vidar.core.step import Step
from vidar.types import Slots

MOST = 128  # maximum number of cached layouts
AHEAD = 16  # number of cycles whose slots are shifted together
Clocks = tuple[int, ...]  # clocks of the batch rows; a single one if all rows agree


@dataclass(frozen=True)
class Block:
    """The slots of a layout in AHEAD cycles, the first shifted by `units`.

    The tensors have one more leading dimension.

    memo: cache of what backbones derive from all coordinates together, see `Layout.block`.
    """

    units: int
    slots: Slots
    row_unit: Tensor
    row_cell: Tensor
    memo: dict[str, Any] = field(default_factory=dict[str, Any])

    def at(self, number: int) -> Slots:
        """The slots of one of the cycles."""
        s = self.slots
        return Slots(s.site[number], s.cell[number], s.unit[number], s.role, s.coord[number])


@dataclass
class Kept:
    """A layout and the clocks it was compiled at. full: no slot is padding; filled: the rings without empty places.

    block: the block of shifts that was used last.
    """

    layout: Layout
    clocks: Clocks
    full: bool
    filled: frozenset[str]
    block: Block | None = None


class Layouts:
    """Layouts of one order and its grids: `layouts(step, order, grids, clocks, held, rings) -> Layout`."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Kept] = {}
        self._system: tuple[Order, Grid, int, int | None] | None = None  # order, grid, sites of a period, cycle

    def __call__(
        self,
        step: Step,
        order: Order,
        grids: Sequence[Grid],
        clocks: Sequence[int],
        held: Mapping[str, Slots] | None,
        rings: Mapping[str, str],
    ) -> Layout:
        """The layout of a Step, with leading dimension 1 if all rows of the batch agree."""
        alike = len(set(clocks)) == 1 and all(grid is grids[0] for grid in grids)
        cycle = self._cycle(step, order, grids, clocks)
        when = (clocks[0],) if alike else tuple(clocks)
        key = (step.rows, held is None, alike, *(clock % cycle for clock in when)) if cycle else None
        kept = None if key is None else self._kept.get(key)
        if kept is not None:
            moved = self._moved(kept, order, grids[0], when, held)
            if moved is not None:
                return moved
        made = _compiled(step, order, grids, clocks, held, rings, alike)
        if key is not None and (len(made.slots.site) == 1) == alike:
            if len(self._kept) >= MOST:
                self._kept.pop(next(iter(self._kept)))
            filled = frozenset(
                name
                for name, view in made.views.items()
                if isinstance(view.ring, Slots) and bool((view.ring.cell >= 0).all())
            )
            self._kept[key] = Kept(made, when, bool((made.slots.cell >= 0).all()), filled)
        return made.with_keep(step.keep)

    def _cycle(self, step: Step, order: Order, grids: Sequence[Grid], clocks: Sequence[int]) -> int | None:
        """The cycle in units, if the order is stationary at these clocks; None if a layout is valid only once."""
        if not order.endless or order.period is None or step.keep is not None:
            return None
        if self._system is None:
            sites = int(grids[0].sites(order.period)[0]) - int(grids[0].sites(0)[0])
            self._system = order, grids[0], sites, order.cycle(sites)
        if self._system[0] is not order or any(grid is not self._system[1] for grid in grids):
            return None
        first = min(clocks) + min(row.unit for row in step.rows)
        return self._system[3] if first >= order.warmup else None

    def _moved(
        self, kept: Kept, order: Order, grid: Grid, clocks: Clocks, held: Mapping[str, Slots] | None
    ) -> Layout | None:
        """The layout shifted to new clocks, or None if the rings do not hold its shifted content."""
        assert self._system is not None and order.period is not None
        by = [now - then for now, then in zip(clocks, kept.clocks)]
        units = by[0] if len(by) == 1 else torch.tensor(by)[:, None]
        shift = Shift(units, units // order.period * self._system[2], units * order.unit_cells)
        layout = kept.layout
        for name, slots in (held or {}).items():
            view = layout.views[name]
            if not isinstance(view.ring, Slots) or not _holds(
                slots, shift.ring_cells(view.ring, view.relation.sinks, name in kept.filled)
            ):
                return None
        if len(by) > 1:
            q = shift.slots(layout.slots, grid, kept.full)
            views = {name: view.moved(q, _ring(view, shift, grid)) for name, view in layout.views.items()}
            row_unit, row_cell = q.unit[:, layout.row_start], q.cell[:, layout.row_start]
            return replace(layout, slots=q, views=views, row_unit=row_unit, row_cell=row_cell, memo={})
        block, number = self._block(kept, order, grid, by[0])
        q = block.at(number)
        views = {name: view.moved(q, _ring(view, shift, grid)) for name, view in layout.views.items()}
        told = {"row_unit": block.row_unit[number], "row_cell": block.row_cell[number]}
        return replace(layout, slots=q, views=views, **told, memo={}, block=(block.memo, block.slots.coord, number))

    def _block(self, kept: Kept, order: Order, grid: Grid, by: int) -> tuple[Block, int]:
        """The block that contains the slots shifted by `by` units, and their number in it."""
        assert self._system is not None and self._system[3] is not None and order.period is not None
        cycle = self._system[3]
        if kept.block is None or not 0 <= by - kept.block.units < AHEAD * cycle:
            units = torch.arange(by, by + AHEAD * cycle, cycle)[:, None, None]
            sites = units.div(order.period, rounding_mode="floor") * self._system[2]
            made = Shift(units, sites, units * order.unit_cells).slots(kept.layout.slots, grid, kept.full)
            start = kept.layout.row_start
            kept.block = Block(by, made, made.unit[..., start], made.cell[..., start])
        return kept.block, (by - kept.block.units) // cycle


def _holds(slots: Slots, cell: Tensor) -> bool:
    """Whether a ring holds these cells [B or 1, R]; cell and place together identify a site."""
    if slots.cell.shape == cell.shape:
        return torch.equal(slots.cell, cell)
    return slots.cell.shape[1] == cell.shape[1] and bool((slots.cell == cell).all())


def _ring(view: View, shift: Shift, grid: Grid) -> Held:
    """A function that returns the shifted content of a ring when it is needed."""
    ring = view.ring
    return partial(shift.held, ring, view.relation.sinks, grid) if isinstance(ring, Slots) else None


def _compiled(
    step: Step,
    order: Order,
    grids: Sequence[Grid],
    clocks: Sequence[int],
    held: Mapping[str, Slots] | None,
    rings: Mapping[str, str],
    alike: bool,
) -> Layout:
    if alike and (held is None or all(_uniform(slots) for slots in held.values())):
        held = None if held is None else {name: _first(slots) for name, slots in held.items()}
        return compile_layout(step.rows, order, grids[:1], clocks[:1], held, rings)
    return compile_layout(step.rows, order, grids, clocks, held, rings)


@dataclass(frozen=True)
class Shift:
    """How far slots are shifted: numbers, or long [B, 1]."""

    units: int | Tensor
    sites: int | Tensor
    cells: int | Tensor

    def ring_cells(self, held: Slots, sinks: int, filled: bool) -> Tensor:
        """Shifted cells [B or 1, R] of a ring's content; sinks stay. filled: no place is empty."""
        if filled and not sinks:
            return held.cell + self.cells
        return torch.where((held.cell < 0) | (held.site < sinks), held.cell, held.cell + self.cells)

    def held(self, held: Slots, sinks: int, grid: Grid) -> Slots:
        """The complete shifted content of a ring."""
        still = (held.cell < 0) | (held.site < sinks)
        site, cell, unit = (
            torch.where(still, old, old + by)
            for old, by in ((held.site, self.sites), (held.cell, self.cells), (held.unit, self.units))
        )
        return Slots(site, cell, unit, held.role.expand_as(site), grid.coord(site))

    def slots(self, q: Slots, grid: Grid, full: bool) -> Slots:
        """The shifted slots of a call. full: no slot is padding."""
        site, cell, unit = q.site + self.sites, q.cell + self.cells, q.unit + self.units
        if not full:
            padding = q.cell < 0
            site = torch.where(padding & (q.site == 0), q.site, site)  # not a site; padding inside a unit has a number
            cell, unit = torch.where(padding, q.cell, cell), torch.where(padding, q.unit, unit)
        return Slots(site, cell, unit, q.role, grid.coord(site))


def _uniform(slots: Slots) -> bool:
    return bool((slots.cell == slots.cell[:1]).all()) and bool((slots.site == slots.site[:1]).all())


def _first(slots: Slots) -> Slots:
    return Slots(slots.site[:1], slots.cell[:1], slots.unit[:1], slots.role[:1], slots.coord[:1])
