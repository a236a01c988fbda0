"""RingState: ring buffers allocated once and written in place; mark and rewind through a journal per batch row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vidar.cache.carries import Carries
from vidar.cache.store import Ring, Saved, Write
from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.order import Order
from vidar.core.placement import RingShape
from vidar.core.state import RowState
from vidar.core.step import Step
from vidar.core.trace import Advanced, Attempt, Discarded, Evicted, Replaced, Stacked
from vidar.types import PAD, Slots


@dataclass(frozen=True)
class Mark:
    """A point to return to: the length of each row's journal from its beginning, and a copy of the small parts."""

    number: int
    lengths: tuple[int, ...]
    rows: tuple[RowState, ...]
    carries: Carries
    trace: int


@dataclass
class RingState:
    """The decoding state: rings, codes, units in flight and further trees of each row (`rows`), journal, trace.

    carries: states of mixers with a state of fixed size. trace: every Step that was run and every decision between
    them, in order; replaying it gives the same codes (`vidar.core.trace`). journal: per row, what was overwritten,
    back to the oldest open mark; `dropped` entries came before. behind: for each open mark, the rows that were
    rewound to an older mark since.
    """

    rings: dict[str, Ring]
    rows: list[RowState]
    carries: Carries = field(default_factory=Carries)
    trace: list[Any] = field(default_factory=list[Any])
    journal: list[list[Saved]] = field(default_factory=list[list[Saved]])
    dropped: list[int] = field(default_factory=list[int])
    marks: list[Mark] = field(default_factory=list[Mark])
    behind: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    traced: bool = False
    _writes: dict[str, Write] = field(default_factory=dict[str, Write])
    _fresh: Slots | None = None
    _count: int = 0
    _attempts: dict[int, int] = field(default_factory=dict[int, int])

    @classmethod
    def create(
        cls,
        order: Order,
        grids: Sequence[Grid],
        shapes: Mapping[str, RingShape],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        traced: bool = False,
    ) -> RingState:
        """Allocate rings for one batch row per grid. Raises ValueError for an endless order without capacity."""
        batch, axes, rings = len(grids), len(grids[0].axes), dict[str, Ring]()
        for name, shape in shapes.items():
            relation = shape.relation or name
            placement = shape.placement or order.relations[relation].places
            size = grids[0].num_sites if placement is None else placement.size
            if size is None:
                raise ValueError(f"relation {relation!r} of an endless order needs a capacity")
            if size:
                rings[name] = Ring.create(relation, placement, size, batch, axes, shape, dtype, device)
        rows = [RowState() for _ in range(batch)]
        return cls(rings, rows, traced=traced, journal=[[] for _ in range(batch)], dropped=[0] * batch)

    # what the decode loop and the model call

    def give(self, unit: int, codes: Tensor) -> None:
        """Store the codes [B, n, C] of a given unit before its turn."""
        for row, code in zip(self.rows, codes, strict=True):
            row.codes[unit] = code
            row.done.add(unit)

    @property
    def ring_relations(self) -> Mapping[str, str]:
        """The relation of each ring that does not bear its relation's name."""
        return {name: ring.relation for name, ring in self.rings.items() if name != ring.relation}

    def held(self) -> Mapping[str, Slots]:
        """By ring, the slots that it keeps now."""
        return {name: ring.slots for name, ring in self.rings.items()}

    def read(self, relation: str, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values [B, R, K, E] of a layer of a ring."""
        ring = self.rings.get(relation)
        return None if ring is None else (ring.k[layer], ring.v[layer])

    def begin(self, layout: Layout, inputs: Tensor) -> None:
        """Choose the places of the MEMORY slots; while a mark is open, save what they will overwrite.

        inputs: [B, S, I].
        """
        self._fresh = layout.slots
        self._writes = {name: self._write(name, ring, layout) for name, ring in self.rings.items()}
        if self.marks:
            for name, write in self._writes.items():
                for b, places in write.by_row.items():
                    self.journal[b].append(self.rings[name].saved(name, b, places))

    def _write(self, name: str, ring: Ring, layout: Layout) -> Write:
        """Computed once for a layout and its shifted copies, if places are a formula."""
        if ring.placement is not None and ring.placement.cycle is None:
            return ring.places(layout.slots, len(self.rows))
        key = f"places {name} {len(self.rows)}"
        if key not in layout.fixed:
            layout.fixed[key] = ring.places(layout.slots, len(self.rows))
        return layout.fixed[key]

    def write(self, relation: str, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep the MEMORY slots among fresh keys and values [B, S, K, E] of a layer."""
        write = self._writes.get(relation)
        if write is not None and not write.empty:
            self.rings[relation].write(layer, k, v, write)

    def carry(self, name: str, layer: int) -> Tensor | None:
        """See `vidar.types.State`."""
        return self.carries.get(name, layer)

    def carried(self) -> Mapping[tuple[str, int], Tensor]:
        """See `vidar.types.State`."""
        return self.carries.values

    def put(self, name: str, layer: int, value: Tensor) -> None:
        """See `vidar.types.State`."""
        self.carries = self.carries.put(name, layer, value)

    def end(self, step: Step) -> None:
        """Let the records of the rings name the new slots."""
        assert self._fresh is not None
        for name, write in self._writes.items():
            if not write.empty:
                self.rings[name].note(self._fresh, write)
        self._writes, self._fresh = {}, None
        self._note(step)

    # decisions at run time

    def evict(self, ring: str, row: int, sites: Tensor) -> None:
        """Evict sites of a ring (decided by a policy)."""
        self._hide(ring, row, self.rings[ring].find(row, sites))
        self._note(Evicted(ring, row, tuple(sites.tolist())))

    def discard(self, row: int, units: Iterable[int]) -> None:
        """Discard units of a row: codes, outputs, state in flight, keys. Its clock and its carries stay."""
        gone = tuple(units)
        self.rows[row].discard(gone)
        for name, ring in self.rings.items():
            held = torch.isin(ring.slots.unit[row], torch.tensor(gone, dtype=torch.long))
            self._hide(name, row, torch.nonzero(held & (ring.slots.cell[row] != PAD))[:, 0])
        self._note(Discarded(row, gone))

    def advance(self, row: int, count: int) -> None:
        """Advance the clock of one row by `count` units."""
        self.rows[row].clock += count
        self._note(Advanced(row, count))

    def attempt(self, row: int, number: int | None = None) -> None:
        """Let a row draw new random numbers from here on; a rewind does not undo it.

        number: None takes the next attempt.
        """
        made = self._attempts.get(row, 0) + 1 if number is None else number
        self._attempts[row] = max(made, self._attempts.get(row, 0))
        self.rows[row].attempt = made
        self._note(Attempt(row, made))

    def _hide(self, name: str, row: int, places: Tensor) -> None:
        if places.numel() == 0:
            return
        ring = self.rings[name]
        if self.marks:
            self.journal[row].append(ring.saved(name, row, places))
        ring.slots.cell[row, places] = PAD

    def _note(self, entry: Any) -> None:
        if self.traced:
            self.trace.append(entry)

    # mark and rewind

    def mark(self) -> Mark:
        """A point to return to. While a mark is open, every write is journalled; call `release` when done."""
        self._count += 1
        lengths = tuple(before + len(entries) for before, entries in zip(self.dropped, self.journal, strict=True))
        mark = Mark(self._count, lengths, tuple(row.copy() for row in self.rows), self.carries, len(self.trace))
        self.marks.append(mark)
        return mark

    def rewind(self, mark: Mark, rows: Iterable[int] | None = None) -> None:
        """Return to a mark, for all rows or some. The mark stays open; later marks become invalid for these rows.

        Raises ValueError if the mark was released, or if one of the rows was rewound past it.
        """
        back = list(range(len(self.rows)) if rows is None else rows)
        if not any(mark is other for other in self.marks):
            raise ValueError("this mark was released, or a rewind went past it")
        if void := self.behind.get(mark.number, set[int]()) & set(back):
            raise ValueError(f"a rewind of row {min(void)} went past this mark")
        for b in back:
            while self.dropped[b] + len(self.journal[b]) > mark.lengths[b]:
                saved = self.journal[b].pop()
                self.rings[saved.ring].restore(b, saved)
            self.rows[b] = mark.rows[b].copy()
        self.carries = mark.carries if rows is None else self.carries.back(mark.carries, back)
        for other in [m for m in self.marks if m.number > mark.number]:
            self.behind.setdefault(other.number, set()).update(back)
        if rows is None:
            del self.trace[mark.trace :]
            del self.marks[self.marks.index(mark) + 1 :]

    def release(self, mark: Mark) -> None:
        """Release a mark; the journal drops what no open mark needs."""
        self.marks.remove(mark)
        self.behind.pop(mark.number, None)
        for b, entries in enumerate(self.journal):
            open_ = [other for other in self.marks if b not in self.behind.get(other.number, ())]
            needed = min((other.lengths[b] - self.dropped[b] for other in open_), default=len(entries))
            self.dropped[b] += len(entries[:needed])
            del entries[:needed]

    # rows of several states

    def fork(self, rows: Sequence[int]) -> RingState:
        """An independent state with copies of some rows; it has no open marks."""
        rings = {name: ring.picked(rows) for name, ring in self.rings.items()}
        made = self._of([self.rows[b].copy() for b in rows], rings, self.carries.picked(rows))
        made.trace = list(self.trace)
        return made

    def replace(self, rows: Sequence[int], source: RingState) -> None:
        """Overwrite some rows with the rows of `source`, in place; the inverse of `fork`.

        Raises ValueError if one of the states has an open mark.
        """
        if self.marks or source.marks:
            raise ValueError("release all marks before rows are replaced")
        for name, ring in self.rings.items():
            ring.replace(rows, source.rings[name])
        for b, row in zip(rows, source.rows, strict=True):
            self.rows[b] = row.copy()
        self.carries = self.carries.replaced(rows, source.carries, len(self.rows))
        self._note(Replaced(tuple(rows), tuple(source.trace)))

    @staticmethod
    def stack(states: Sequence[RingState]) -> RingState:
        """One state with the rows of several, concatenated. Raises ValueError if one of them has an open mark."""
        if any(state.marks for state in states):
            raise ValueError("release all marks before stacking states")
        rings = {name: Ring.stacked([state.rings[name] for state in states]) for name in states[0].rings}
        rows = [row.copy() for state in states for row in state.rows]
        carries = Carries.stacked([(state.carries, len(state.rows)) for state in states])
        made = states[0]._of(rows, rings, carries)
        made._note(Stacked(tuple(tuple(state.trace) for state in states)))
        return made

    def _of(self, rows: list[RowState], rings: dict[str, Ring], carries: Carries) -> RingState:
        """A state of these rows and rings, without marks, traced like this one."""
        return RingState(rings, rows, carries, journal=[[] for _ in rows], dropped=[0] * len(rows), traced=self.traced)
