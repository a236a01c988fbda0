"""ListState: the functional state. Nothing is overwritten, so gradients can flow through a rollout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vidar.cache.carries import Carries
from vidar.cache.store import fields_of
from vidar.core.layout import Layout, join
from vidar.core.state import RowState
from vidar.core.step import Step
from vidar.core.trace import Discarded
from vidar.types import MEMORY, PAD, Slots


@dataclass(frozen=True)
class ListMark:
    """A snapshot: all lists as they were."""

    keys: dict[tuple[str, int], tuple[Tensor, Tensor]]
    slots: dict[str, Slots]
    rows: tuple[RowState, ...]
    carries: Carries


@dataclass
class ListState:
    """Keys and values by (relation, layer), which grow by concatenation.

    Masks replace the overwriting of ring buffers.

    detach: committed keys carry no gradient (self-forcing). The batch rows of one call may differ in what they commit
    only by padding cells, which are kept and never seen.
    """

    relations: tuple[str, ...]
    rows: list[RowState]
    detach: bool = False
    keys: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(
        default_factory=dict[tuple[str, int], tuple[Tensor, Tensor]]
    )
    slots: dict[str, Slots] = field(default_factory=dict[str, Slots])
    carries: Carries = field(default_factory=Carries)
    trace: list[Any] = field(default_factory=list[Any])
    _kept: Tensor | None = None
    _fresh: Slots | None = None

    @classmethod
    def create(cls, relations: Sequence[str], batch: int, detach: bool = False) -> ListState:
        """An empty state for `batch` rows."""
        return cls(tuple(relations), [RowState() for _ in range(batch)], detach)

    def give(self, unit: int, codes: Tensor) -> None:
        """Store the codes [B, n, C] of a given unit before its turn."""
        for row, code in zip(self.rows, codes, strict=True):
            row.codes[unit] = code
            row.done.add(unit)

    @property
    def ring_relations(self) -> Mapping[str, str]:
        """Every ring bears its relation's name, so this is empty."""
        return {}

    def held(self) -> Mapping[str, Slots]:
        """By relation, all slots committed so far."""
        return self.slots

    def read(self, relation: str, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values [B, R, K, E] of a layer, R growing."""
        return self.keys.get((relation, layer))

    def begin(self, layout: Layout, inputs: Tensor) -> None:
        """Remember which slots of the call to keep: MEMORY slots that are not padding in at least one row.

        inputs: [B, S, I].
        """
        self._fresh = layout.slots
        kept = (layout.slots.role == MEMORY) & (layout.slots.cell != PAD)
        self._kept = torch.nonzero(kept.any(dim=0))[:, 0]

    def write(self, relation: str, layer: int, k: Tensor, v: Tensor) -> None:
        """Append the kept slots of fresh keys and values [B, S, K, E]."""
        assert self._kept is not None
        k, v = k[:, self._kept], v[:, self._kept]
        if self.detach:
            k, v = k.detach(), v.detach()
        old = self.keys.get((relation, layer))
        self.keys[relation, layer] = (k, v) if old is None else (torch.cat([old[0], k], 1), torch.cat([old[1], v], 1))

    def carry(self, name: str, layer: int) -> Tensor | None:
        """See `vidar.types.State`."""
        return self.carries.get(name, layer)

    def carried(self) -> Mapping[tuple[str, int], Tensor]:
        """See `vidar.types.State`."""
        return self.carries.values

    def put(self, name: str, layer: int, value: Tensor) -> None:
        """See `vidar.types.State`."""
        self.carries = self.carries.put(name, layer, value.detach() if self.detach else value)

    def discard(self, row: int, units: Iterable[int]) -> None:
        """Discard units of a row by hiding their keys. See `vidar.cache.ring.RingState.discard`."""
        gone = tuple(units)
        self.rows[row].discard(gone)
        for name, slots in self.slots.items():
            whole = Slots(*(part.expand(len(self.rows), *part.shape[1:]) for part in fields_of(slots)))
            cell = whole.cell.clone()
            cell[row, torch.isin(whole.unit[row], torch.tensor(gone, dtype=torch.long))] = PAD
            self.slots[name] = replace(whole, cell=cell)
        self.trace.append(Discarded(row, gone))

    def end(self, step: Step) -> None:
        """Append the record of the kept slots."""
        assert self._fresh is not None and self._kept is not None
        if self._kept.numel():
            fresh, kept = self._fresh, self._kept
            new = Slots(
                fresh.site[:, kept], fresh.cell[:, kept], fresh.unit[:, kept], fresh.role[:, kept], fresh.coord[:, kept]
            )
            for name in self.relations:
                self.slots[name] = join(self.slots[name], new) if name in self.slots else new
        self._kept = self._fresh = None
        self.trace.append(step)

    def mark(self) -> ListMark:
        """A snapshot; it costs nothing and needs no release."""
        return ListMark(dict(self.keys), dict(self.slots), tuple(row.copy() for row in self.rows), self.carries)

    def rewind(self, mark: ListMark) -> None:
        """Return to a mark, for all rows."""
        self.keys, self.slots = dict(mark.keys), dict(mark.slots)
        self.rows, self.carries = [row.copy() for row in mark.rows], mark.carries
