"""Training computes only the rows that have a loss, and what these rows read.

    rows    m0 m1 m2 q0 q1 q2     nobody reads m2: it is left out of the whole forward
    asked            q0 q1 q2     of m0 and m1 the last block makes keys and values, and nothing after them

This is exact, because the outputs left out have no gradient. It applies only if the caller requests it with `asking`;
rows that only commit (`Layout.row_step` -1) then have zeros as output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidar.core.layout import Layout
from vidar.core.mask import pair_rule
from vidar.nn.runs import pick
from vidar.types import Cond, Slots

Index = slice | Tensor  # a slice, or long [n] in rising order
ASKING = "asking"  # key in the memo of a layout: the views it was last read for, and its Reading


def asking(layout: Layout) -> Layout:
    """The same layout, for a caller that reads the outputs of rows with a loss only, without a state."""
    return replace(layout, memo={**layout.memo, ASKING: (None, None)})


def reading(layout: Layout) -> Reading | None:
    """The parts of a layout that must be computed; None: all of it."""
    if ASKING not in layout.memo:
        return None
    views, found = layout.memo[ASKING]
    if views is not layout.views:  # the memo is shared with layouts that have another `keep` (`Layout.with_keep`)
        found = Reading.of(layout)
        layout.memo[ASKING] = layout.views, found
    return found


@dataclass(frozen=True)
class Part:
    """Some modulation rows of a layout with their slots, as a layout, and their positions in the full layout."""

    layout: Layout
    rows: Index
    slots: Index

    @classmethod
    def of(cls, layout: Layout, rows: Tensor, keys: Slots | None = None) -> Part:
        """Select rows: bool [M]. keys: the part that these rows see; None: themselves."""
        slots = torch.nonzero(rows[layout.row])[:, 0]
        kept = torch.nonzero(rows)[:, 0]
        row = (rows.cumsum(0) - 1)[layout.row[slots]]
        start = torch.searchsorted(row, torch.arange(len(kept)))
        own = pick(layout.slots, slots)
        short = replace(
            layout,
            slots=own,
            views={name: view.over(own, keys) for name, view in layout.views.items()},
            row=row,
            row_start=start,
            row_unit=layout.row_unit[:, kept],
            row_cell=layout.row_cell[:, kept],
            row_role=layout.row_role[kept],
            row_step=layout.row_step[kept],
            memo={},
            fixed={},
            block=None,
        )
        return cls(short, _index(kept), _index(slots))


@dataclass(frozen=True)
class Reading:
    """read: the rows that have a loss or are read by such rows.

    asked: those among them with a loss; it sees all of `read`.

    slots: positions of the asked slots among all slots of the layout.
    """

    read: Part
    asked: Part
    slots: Index
    total: int

    @classmethod
    def of(cls, layout: Layout) -> Reading | None:
        """None if every row or no row has a loss, or if keys of other calls are read, as in play."""
        asked = layout.row_step >= 0
        fresh = all(view.ring is None for view in layout.views.values())
        if not fresh or bool(asked.all()) or not bool(asked.any()):
            return None
        read = Part.of(layout, read_rows(layout))
        part = Part.of(read.layout, read.layout.row_step >= 0, read.layout.slots)
        return cls(read, part, _index(torch.nonzero(asked[layout.row])[:, 0]), layout.num_slots)

    def enter(self, inputs: Tensor, cond: Cond) -> tuple[Tensor, Cond]:
        """Inputs [B, S, I] and ports of the layout -> those of the rows that are read."""
        rows = None if cond.modulation is None else taken(cond.modulation, self.read.rows)
        add = None if cond.add is None else taken(cond.add, self.read.slots)
        return taken(inputs, self.read.slots), replace(cond, modulation=rows, add=add)

    def leave(self, out: Tensor) -> Tensor:
        """Outputs of the asked slots [B, S', O] -> outputs of all slots [B, S, O], zero elsewhere."""
        whole = out.new_zeros(out.shape[0], self.total, out.shape[2])
        if isinstance(self.slots, slice):
            whole[:, self.slots] = out
            return whole
        return whole.index_copy(1, self.slots.to(out.device), out)


def read_rows(layout: Layout) -> Tensor:
    """bool [M]: the rows with a loss, and those that they read directly or through other rows; folds are ignored."""
    reads = torch.zeros(layout.num_rows, layout.num_rows, dtype=torch.bool)
    for view in layout.views.values():
        rows = pick(view.q, layout.row_start)
        by_reader = [part[:, :, None] for part in (rows.cell, rows.unit, rows.role)]
        by_key = [part[:, None, :] for part in (rows.cell, rows.unit, rows.role)]
        pairs = [part for both in zip(by_reader, by_key) for part in both]
        reads |= pair_rule(view.relation, *pairs).any(dim=0)
    found = layout.row_step >= 0
    while not torch.equal(grown := found | reads[found].any(dim=0), found):
        found = grown
    return found


def taken(x: Tensor, index: Index) -> Tensor:
    """Select along axis 1: x [B, n, ..] -> [B, m, ..]."""
    return x[:, index] if isinstance(index, slice) else x.index_select(1, index.to(x.device))


def _index(found: Tensor) -> Index:
    first, last = int(found[0]), int(found[-1]) + 1
    return slice(first, last) if last - first == len(found) else found
