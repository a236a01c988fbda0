"""RingState: rings written in place, allocated once, never shifted; mark and rewind through a journal per batch row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidar.core.decode import RowState
from vidar.core.grid import Grid
from vidar.core.layout import Layout, empty_slots
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.core.step import Step
from vidar.types import MEMORY, NOBODY, RingShape, Slots


@dataclass
class Ring:
    """k, v: [L, B, R, K, E]; slots: what they hold, [B, R] on the CPU."""

    relation: Relation
    k: Tensor
    v: Tensor
    slots: Slots


class Saved(NamedTuple):
    """What one batch row lost to one write: places long [n] of a ring, and what stood there."""

    relation: str
    places: Tensor
    k: Tensor
    v: Tensor
    slots: tuple[Tensor, ...]


class Write(NamedTuple):
    """Where the MEMORY slots of a call go: three long [n] tensors."""

    row: Tensor
    slot: Tensor
    place: Tensor


@dataclass(frozen=True)
class Mark:
    """A point to come back to: entries of each row's journal, counted from its beginning, and a copy of small parts."""

    number: int
    lengths: tuple[int, ...]
    rows: tuple[RowState, ...]
    trace: int


FIELDS = ("site", "cell", "unit", "role", "coord")


def _fields(slots: Slots) -> tuple[Tensor, ...]:
    return tuple(getattr(slots, name) for name in FIELDS)


@dataclass
class RingState:
    """One tree: rings, codes, what is in flight and further trees of each row (`rows`), journal and trace.

    trace: every Step run and every eviction, in order; replaying it gives the same codes.
    journal: per row what was overwritten, back to the oldest open mark; `dropped` entries came before.
    """

    rings: dict[str, Ring]
    rows: list[RowState]
    trace: list[Any] = field(default_factory=list[Any])
    journal: list[list[Saved]] = field(default_factory=list[list[Saved]])
    dropped: list[int] = field(default_factory=list[int])
    marks: list[Mark] = field(default_factory=list[Mark])
    traced: bool = False
    _writes: dict[str, Write] = field(default_factory=dict[str, Write])
    _fresh: Slots | None = None
    _count: int = 0

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
        batch, rings = len(grids), dict[str, Ring]()
        for name, shape in shapes.items():
            relation = order.relations[name]
            size = grids[0].num_sites if relation.capacity is None else relation.capacity
            if size is None:
                raise ValueError(f"relation {name!r} of an endless order needs a capacity")
            if size == 0:
                continue
            sizes = (shape.layers, batch, size, shape.heads, shape.width)
            k, v = torch.zeros(sizes, dtype=dtype, device=device), torch.zeros(sizes, dtype=dtype, device=device)
            rings[name] = Ring(relation, k, v, empty_slots(batch, size, len(grids[0].axes)))
        rows = [RowState() for _ in range(batch)]
        return cls(rings, rows, traced=traced, journal=[[] for _ in range(batch)], dropped=[0] * batch)

    # what decode and the model ask

    def give(self, unit: int, codes: Tensor) -> None:
        """Codes [B, n, C] of a given unit, known before its turn."""
        for row, code in zip(self.rows, codes, strict=True):
            row.codes[unit] = code
            row.done.add(unit)

    def held(self) -> Mapping[str, Slots]:
        """By relation, the slots its ring keeps now."""
        return {name: ring.slots for name, ring in self.rings.items()}

    def read(self, relation: str, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values [B, R, K, E] of a layer."""
        ring = self.rings.get(relation)
        return None if ring is None else (ring.k[layer], ring.v[layer])

    def begin(self, layout: Layout, inputs: Tensor) -> None:
        """Find the places of the MEMORY slots; save what they overwrite while a mark is open."""
        self._fresh = layout.slots
        self._writes = {name: self._places(ring.relation, layout.slots) for name, ring in self.rings.items()}
        if self.marks:
            for name, write in self._writes.items():
                for b in range(len(self.rows)):
                    self._save(name, b, write.place[write.row == b])

    def write(self, relation: str, layer: int, k: Tensor, v: Tensor) -> None:
        """Fresh keys and values [B, S, K, E] of a layer; the MEMORY slots among them are kept."""
        write = self._writes.get(relation)
        if write is None or write.row.numel() == 0:
            return
        ring = self.rings[relation]
        ring.k[layer, write.row, write.place] = k[write.row, write.slot].to(ring.k.dtype)
        ring.v[layer, write.row, write.place] = v[write.row, write.slot].to(ring.v.dtype)

    def end(self, step: Step) -> None:
        """The rings' records now name the new slots."""
        assert self._fresh is not None
        for name, write in self._writes.items():
            for held, new in zip(_fields(self.rings[name].slots), _fields(self._fresh)):
                held[write.row, write.place] = new.expand(len(self.rows), *new.shape[1:])[write.row, write.slot]
        self._writes, self._fresh = {}, None
        if self.traced:
            self.trace.append(step)

    def evict(self, relation: str, row: int, sites: Tensor) -> None:
        """Forget sites of a ring (a policy's choice); leaves a trace."""
        ring = self.rings[relation]
        hit = torch.isin(ring.slots.site[row], sites) & (ring.slots.cell[row] != NOBODY)
        places = torch.nonzero(hit)[:, 0]
        if self.marks:
            self._save(relation, row, places)
        ring.slots.cell[row, places] = NOBODY
        if self.traced:
            self.trace.append((relation, row, sites.tolist()))

    # mark and rewind

    def mark(self) -> Mark:
        """A point to come back to. While a mark is open every write is journalled; `release` it."""
        self._count += 1
        lengths = tuple(before + len(entries) for before, entries in zip(self.dropped, self.journal, strict=True))
        mark = Mark(self._count, lengths, tuple(row.copy() for row in self.rows), len(self.trace))
        self.marks.append(mark)
        return mark

    def rewind(self, mark: Mark, rows: Iterable[int] | None = None) -> None:
        """Go back to a mark: all rows, or some. The mark stays open; marks made after it are void where all go back."""
        if mark not in self.marks:
            raise ValueError("this mark was released, or a rewind went behind it")
        for b in range(len(self.rows)) if rows is None else rows:
            while self.dropped[b] + len(self.journal[b]) > mark.lengths[b]:
                self._restore(b, self.journal[b].pop())
            self.rows[b] = mark.rows[b].copy()
        if rows is None:
            del self.trace[mark.trace :]
            del self.marks[self.marks.index(mark) + 1 :]

    def release(self, mark: Mark) -> None:
        """Give a mark up. What no open mark needs leaves the journal."""
        self.marks.remove(mark)
        for b, entries in enumerate(self.journal):
            needed = min((other.lengths[b] - self.dropped[b] for other in self.marks), default=len(entries))
            self.dropped[b] += len(entries[:needed])
            del entries[:needed]

    def fork(self, rows: Sequence[int]) -> RingState:
        """A state of its own holding copies of some rows; no mark is open in it."""
        pick = torch.tensor(list(rows))
        rings = {
            name: Ring(
                ring.relation,
                ring.k[:, pick].clone(),
                ring.v[:, pick].clone(),
                Slots(*(part[pick].clone() for part in _fields(ring.slots))),
            )
            for name, ring in self.rings.items()
        }
        empty, picked = [list[Saved]() for _ in rows], [self.rows[b].copy() for b in rows]
        return RingState(rings, picked, list(self.trace), empty, [0] * len(empty), traced=self.traced)

    def put(self, rows: Sequence[int], source: RingState) -> None:
        """Write the rows of `source` over some of these, in place: the way back of `fork`. No mark may be open."""
        if self.marks or source.marks:
            raise ValueError("release all marks before putting rows")
        pick = torch.tensor(list(rows))
        for name, ring in self.rings.items():
            new = source.rings[name]
            ring.k[:, pick], ring.v[:, pick] = new.k, new.v
            for held, part in zip(_fields(ring.slots), _fields(new.slots)):
                held[pick] = part
        for b, row in zip(rows, source.rows, strict=True):
            self.rows[b] = row.copy()

    @staticmethod
    def stack(states: Sequence[RingState]) -> RingState:
        """One state with the rows of several, side by side. None of them may have an open mark."""
        if any(state.marks for state in states):
            raise ValueError("release all marks before stacking states")
        rings = {
            name: Ring(
                ring.relation,
                torch.cat([s.rings[name].k for s in states], dim=1),
                torch.cat([s.rings[name].v for s in states], dim=1),
                Slots(*(torch.cat(p) for p in zip(*(_fields(s.rings[name].slots) for s in states), strict=True))),
            )
            for name, ring in states[0].rings.items()
        }
        rows = [row.copy() for state in states for row in state.rows]
        empty, none = [list[Saved]() for _ in rows], [0] * len(rows)
        return RingState(rings, rows, journal=empty, dropped=none, traced=states[0].traced)

    # inside

    def _places(self, relation: Relation, slots: Slots) -> Write:
        """The MEMORY slots of a call and their places; where two want one place, the last site wins."""
        batch = len(self.rows)
        site = slots.site.expand(batch, -1)
        kept = ((slots.role == MEMORY) & (slots.cell != NOBODY)).expand(batch, -1)
        place = relation.place(site)
        row, slot = torch.nonzero(kept, as_tuple=True)
        key = row * (int(place.max()) + 1) + place[row, slot]
        order = torch.argsort(site[row, slot], stable=True)
        last = torch.ones_like(order, dtype=torch.bool)
        grouped = order[torch.argsort(key[order], stable=True)]
        last[:-1] = key[grouped][1:] != key[grouped][:-1]
        chosen = grouped[last].sort().values
        return Write(row[chosen], slot[chosen], place[row[chosen], slot[chosen]])

    def _save(self, relation: str, b: int, places: Tensor) -> None:
        ring = self.rings[relation]
        held = tuple(part[b, places].clone() for part in _fields(ring.slots))
        self.journal[b].append(Saved(relation, places, ring.k[:, b, places], ring.v[:, b, places], held))

    def _restore(self, b: int, saved: Saved) -> None:
        ring = self.rings[saved.relation]
        ring.k[:, b, saved.places] = saved.k
        ring.v[:, b, saved.places] = saved.v
        for part, old in zip(_fields(ring.slots), saved.slots):
            part[b, saved.places] = old
