"""Layout: the compiled Step. Training is the same object: one Step with all rows and no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.mask import visible
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.core.step import Row
from vidar.types import NOBODY, Slots


@dataclass(frozen=True)
class View:
    """What one relation shows the slots of a call: `k` is the ring's slots followed by the call's own.

    `memo` keeps what backbones derive from it (device copies, BlockMasks).
    """

    relation: Relation
    q: Slots
    k: Slots
    axes: tuple[str, ...]
    keep: Tensor | None = None
    memo: dict[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def dense(self) -> Tensor:
        """bool [B or 1, S, R + S], True = may read."""
        return visible(self.relation, self.q, self.k, self.axes, self.keep)

    @cached_property
    def mask(self) -> Tensor | None:
        """`dense`, or None where every slot reads everything: no mask needed."""
        return None if bool(self.dense.all()) else self.dense

    @cached_property
    def blind(self) -> Tensor | None:
        """bool [B or 1, S]: slots that see nothing, whose result is zero; None where there are none."""
        nothing = ~self.dense.any(dim=-1)
        return nothing if bool(nothing.any()) else None


@dataclass(frozen=True)
class Layout:
    """Slots of one call and what each relation shows them.

    slots         Slots [B or 1, S], on the CPU
    views         by relation name
    row           long [S]: the modulation row of each slot; rows are the runs of equal (unit, cell, role)
    row_start     long [M]: the first slot of each modulation row
    row_unit      long [B or 1, M];  row_cell the same;  row_role: long [M]
    row_step      long [M]: the row's refinement step, -1 where it only commits (and nothing is asked of it)
    row_length    slots per modulation row where all are equal, else None
    """

    slots: Slots
    views: Mapping[str, View]
    axes: tuple[str, ...]
    row: Tensor
    row_start: Tensor
    row_unit: Tensor
    row_cell: Tensor
    row_role: Tensor
    row_step: Tensor
    row_length: int | None
    memo: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def num_slots(self) -> int:
        """S."""
        return self.slots.site.shape[1]

    @property
    def num_rows(self) -> int:
        """M."""
        return self.row_start.shape[0]

    def with_keep(self, keep: Tensor | None) -> Layout:
        """The same layout with `keep` bool [B, cells, cells] and-ed to every relation."""
        if keep is None:
            return self
        views = {name: replace(view, keep=keep, memo={}) for name, view in self.views.items()}
        return replace(self, views=views, memo={})


def _row_slots(row: Row, order: Order, grid: Grid, clock: int, size: int) -> tuple[Tensor, Tensor]:
    """Sites and cells [size] of a row for one batch row; cells are NOBODY behind the unit's own sites."""
    unit = clock + row.unit
    site = torch.zeros(size, dtype=torch.long)
    cell = torch.full((size,), NOBODY)
    if order.exists(unit):
        sites = grid.sites(unit)
        site[: sites.shape[0]] = sites
        cell[: sites.shape[0]] = grid.cell(sites)
    return site, cell


def row_sizes(rows: Sequence[Row], order: Order, grids: Sequence[Grid], clocks: Sequence[int]) -> list[int]:
    """Slots of each row of a Step: those of its largest unit in the batch; of unit 0 where all are nobody."""
    sizes: list[int] = []
    for row in rows:
        real = [g.sites(c + row.unit).shape[0] for g, c in zip(grids, clocks) if order.exists(c + row.unit)]
        sizes.append(max(real) if real else grids[0].sites(0).shape[0])
    return sizes


def _collect(rows: Sequence[Row], order: Order, grids: Sequence[Grid], clocks: Sequence[int]) -> tuple[Slots, Tensor]:
    sizes = row_sizes(rows, order, grids, clocks)
    made = [[_row_slots(row, order, g, c, n) for row, n in zip(rows, sizes)] for g, c in zip(grids, clocks)]
    site = torch.stack([torch.cat([s for s, _ in one]) for one in made])
    cell = torch.stack([torch.cat([c for _, c in one]) for one in made])
    role = torch.cat([torch.full((n,), row.role) for row, n in zip(rows, sizes)])
    number = torch.cat([torch.full((n,), i) for i, n in enumerate(sizes)])
    coord = torch.stack([g.coord(s) for g, s in zip(grids, site)])
    unit = torch.where(cell >= 0, order.unit(cell.clamp(min=0)), NOBODY)
    return Slots(site, cell, unit, role.expand_as(site).contiguous(), coord), number


def compile_layout(
    rows: Sequence[Row],
    order: Order,
    grids: Sequence[Grid],
    clocks: Sequence[int] = (0,),
    held: Mapping[str, Slots] | None = None,
) -> Layout:
    """Rows of a Step -> Layout. One grid and one clock per batch row, or one of each for all.

    held: by relation, the slots that its ring keeps now; without it there is no state (training).
    """
    slots, number = _collect(rows, order, grids, clocks)
    steps = torch.tensor([-1 if row.step is None else row.step for row in rows])
    return assemble(slots, number, steps[number], order, grids[0].axes, held)


def assemble(
    slots: Slots,
    number: Tensor,
    steps: Tensor,
    order: Order,
    axes: tuple[str, ...],
    held: Mapping[str, Slots] | None = None,
) -> Layout:
    """Layout from slots. number, steps: long [S], the Step row a slot belongs to and its refinement step."""
    views: dict[str, View] = {}
    for name, relation in order.relations.items():
        ring = None if held is None else held.get(name)
        views[name] = View(relation, slots, slots if ring is None else join(ring, slots), axes)
    change = torch.ones_like(number, dtype=torch.bool)
    change[1:] = (number[1:] != number[:-1]) | (slots.cell[:, 1:] != slots.cell[:, :-1]).any(dim=0)
    start = torch.nonzero(change)[:, 0]
    lengths = torch.diff(start, append=torch.tensor([number.shape[0]]))
    regular = bool((lengths == lengths[0]).all())
    return Layout(
        slots=slots,
        views=views,
        axes=axes,
        row=torch.cumsum(change, 0) - 1,
        row_start=start,
        row_unit=slots.unit[:, start],
        row_cell=slots.cell[:, start],
        row_role=slots.role[0, start],
        row_step=steps[start],
        row_length=int(lengths[0]) if regular else None,
    )


def join(first: Slots, second: Slots) -> Slots:
    """Slots side by side, [B, S1 + S2]; a leading 1 is expanded where the other side needs it."""
    batch = max(first.site.shape[0], second.site.shape[0])

    def side(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a.expand(batch, *a.shape[1:]), b.expand(batch, *b.shape[1:])], dim=1)

    return Slots(
        side(first.site, second.site),
        side(first.cell, second.cell),
        side(first.unit, second.unit),
        side(first.role, second.role),
        side(first.coord, second.coord),
    )


def empty_slots(batch: int, size: int, num_axes: int) -> Slots:
    """Slots of nobody, [B, size]."""
    zeros = torch.zeros(batch, size, dtype=torch.long)
    nobody = torch.full((batch, size), NOBODY)
    coord = torch.zeros(batch, size, num_axes, dtype=torch.float64)
    return Slots(zeros, nobody, nobody.clone(), torch.ones_like(zeros), coord)
