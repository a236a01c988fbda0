"""Layout: a compiled Step. Training uses the same object: one Step with all rows and without a state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.mask import visible
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.core.step import Row
from vidar.types import MEMORY, PAD, Slots

Held = Slots | Callable[[], Slots] | None  # the slots that a ring keeps, or a function that returns them


@dataclass(frozen=True)
class View:
    """What one relation shows to the slots of a call: `k` is the ring's slots followed by the call's own.

    `memo` caches what backbones derive from it (copies on a device, BlockMasks).
    """

    relation: Relation
    q: Slots
    ring: Held
    axes: tuple[str, ...]
    keep: Tensor | None = None
    memo: dict[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def k(self) -> Slots:
        """Slots [B or 1, R + S]. If the call shows a site again, the older key of the site is hidden."""
        ring = self.ring() if callable(self.ring) else self.ring
        return self.q if ring is None else join(_hidden(self.relation, ring, self.q), self.q)

    @cached_property
    def dense(self) -> Tensor:
        """bool [B or 1, S, R + S]; True means that the slot may read the key."""
        return visible(self.relation, self.q, self.k, self.axes, self.keep)

    @cached_property
    def mask(self) -> Tensor | None:
        """`dense`, bool [B or 1, S, R + S], or None if every slot reads everything and no mask is needed."""
        return None if bool(self.dense.all()) else self.dense

    @cached_property
    def blind(self) -> Tensor | None:
        """bool [B or 1, S]: slots that see nothing, so that their attention output is zero; None if there are none."""
        nothing = ~self.dense.any(dim=-1)
        return nothing if bool(nothing.any()) else None

    def over(self, q: Slots, keys: Slots | None = None) -> View:
        """The view of a subset of the call's slots. keys: the slots that they may read; None means one another."""
        made = View(self.relation, q, None, self.axes, self.keep)
        if keys is not None:
            made.__dict__["k"] = keys
        return made

    def moved(self, q: Slots, ring: Held) -> View:
        """The view of other slots that see one another exactly as these do; masks and memo are shared."""
        made = View(self.relation, q, ring, self.axes, self.keep, self.memo)
        made.__dict__.update(
            {name: self.__dict__[name] for name in ("dense", "mask", "blind") if name in self.__dict__}
        )
        return made


def _hidden(relation: Relation, ring: Slots, fresh: Slots) -> Slots:
    """The ring without the sites that the call commits again or, if units in flight are visible, shows again."""
    shown = fresh.cell != PAD
    if not relation.joint:
        shown = shown & (fresh.role == MEMORY)
    again = (ring.site[:, :, None] == torch.where(shown, fresh.site, PAD)[:, None, :]).any(dim=-1)
    return replace(ring, cell=torch.where(again, PAD, ring.cell)) if bool(again.any()) else ring


@dataclass(frozen=True)
class Layout:
    """The slots of one call, and what each relation shows them.

    slots         Slots [B or 1, S], on the CPU
    views         by relation name, or by ring name if a relation has several rings (see `vidar.types.RingShape`)
    row           long [S]: the modulation row of each slot; rows are the runs of equal (unit, cell, role)
    row_start     long [M]: the first slot of each modulation row
    row_unit      long [B or 1, M];  row_cell the same;  row_role: long [M]
    row_step      long [M]: the row's refinement step, or -1 if it only commits (and has no loss)
    row_length    slots per modulation row if all are equal, else None
    spans         [first, last) slot of each row of the Step
    counts        [B or 1] per row of the Step: number of slots that are not padding
    memo          cache of what depends on the positions; `fixed` caches the rest, which shifted layouts share
    block         for a layout that was shifted together with others: a memo for all of them, their coordinates
                  [K, B or 1, S, A], and the layout's number among them
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
    spans: tuple[tuple[int, int], ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    memo: dict[str, Any] = field(default_factory=dict[str, Any])
    fixed: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any])
    block: tuple[dict[str, Any], Tensor, int] | None = None

    @property
    def num_slots(self) -> int:
        """S."""
        return self.slots.site.shape[1]

    @property
    def num_rows(self) -> int:
        """M."""
        return self.row_start.shape[0]

    def with_keep(self, keep: Tensor | None) -> Layout:
        """A copy with `keep` and-ed to every relation: bool [B, C, C] over cells, or [B, 2, C, C] by role and cell."""
        if keep is None:
            return self
        both = keep if keep.ndim == 4 else keep[:, None].expand(-1, 2, -1, -1)
        views = {name: replace(view, keep=both, memo={}) for name, view in self.views.items()}
        return replace(self, views=views)

    def view(self, ring: str, relation: str) -> View:
        """The view of a ring, or of its relation if no state keeps a ring of that name."""
        return self.views[ring] if ring in self.views else self.views[relation]


def _row_slots(row: Row, order: Order, grid: Grid, clock: int, size: int) -> tuple[Tensor, Tensor]:
    """Sites and cells [size] of a row for one batch row; beyond the unit's own sites the cells are PAD."""
    unit = clock + row.unit
    site = torch.zeros(size, dtype=torch.long)
    cell = torch.full((size,), PAD)
    if order.exists(unit):
        sites = grid.sites(unit)
        site[: sites.shape[0]] = sites
        cell[: sites.shape[0]] = grid.cell(sites)
    return site, cell


def _sites_of(row: Row, order: Order, grid: Grid, clock: int) -> int:
    """The number of sites of a row for one batch row, 0 if its unit does not exist."""
    unit = clock + row.unit
    return grid.sites(unit).shape[0] if order.exists(unit) else 0


def compile_layout(
    rows: Sequence[Row],
    order: Order,
    grids: Sequence[Grid],
    clocks: Sequence[int] = (0,),
    held: Mapping[str, Slots] | None = None,
    rings: Mapping[str, str] | None = None,
) -> Layout:
    """Compile the rows of a Step to a Layout. grids, clocks: one per batch row, or one for all.

    held: by ring, the slots that it keeps now; None means that there is no state (training). rings: the relation of
    each ring that does not bear its relation's name. A row is as long as its largest unit in the batch, or as unit 0
    if no batch row has its unit.
    """
    counts = tuple(tuple(_sites_of(row, order, g, c) for row in rows) for g, c in zip(grids, clocks))
    sizes = [max(of_row) or grids[0].sites(0).shape[0] for of_row in zip(*counts)]
    made = [[_row_slots(row, order, g, c, n) for row, n in zip(rows, sizes)] for g, c in zip(grids, clocks)]
    site = torch.stack([torch.cat([s for s, _ in one]) for one in made])
    cell = torch.stack([torch.cat([c for _, c in one]) for one in made])
    length = torch.tensor(sizes)
    role = torch.tensor([row.role for row in rows]).repeat_interleave(length)
    number = torch.arange(len(rows)).repeat_interleave(length)
    steps = torch.tensor([-1 if row.step is None else row.step for row in rows])
    coord = torch.stack([g.coord(s) for g, s in zip(grids, site)])
    unit = torch.where(cell >= 0, order.unit(cell.clamp(min=0)), PAD)
    slots = Slots(site, cell, unit, role.expand_as(site).contiguous(), coord)
    layout = assemble(slots, number, steps[number], order, grids[0].axes, held, rings)
    ends = list(accumulate(sizes))
    return replace(layout, spans=tuple((end - size, end) for size, end in zip(sizes, ends)), counts=counts)


def assemble(
    slots: Slots,
    number: Tensor,
    steps: Tensor,
    order: Order,
    axes: tuple[str, ...],
    held: Mapping[str, Slots] | None = None,
    rings: Mapping[str, str] | None = None,
) -> Layout:
    """Build a Layout from slots. number, steps: long [S], the Step row of each slot and the row's refinement step."""
    kept, names = held or {}, {**{name: name for name in order.relations}, **(rings or {})}
    views = {
        name: View(order.relations[relation], slots, copied(kept[name]) if name in kept else None, axes)
        for name, relation in names.items()
    }
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
    """Concatenate slots to [B, S1 + S2]; a leading 1 is expanded if the other side needs it."""
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


def copied(slots: Slots) -> Slots:
    """A copy that later writes to a ring do not change."""
    return Slots(slots.site.clone(), slots.cell.clone(), slots.unit.clone(), slots.role.clone(), slots.coord.clone())


def empty_slots(batch: int, size: int, num_axes: int) -> Slots:
    """Padding slots [B, size]."""
    zeros = torch.zeros(batch, size, dtype=torch.long)
    padding = torch.full((batch, size), PAD)
    coord = torch.zeros(batch, size, num_axes, dtype=torch.float64)
    return Slots(zeros, padding, padding.clone(), torch.ones_like(zeros), coord)
