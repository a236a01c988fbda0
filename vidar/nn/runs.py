"""Runs: neighbouring slots of equal (cell, unit, role). Without folds they see the same keys and are seen alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidar.core.layout import View
from vidar.core.mask import visible
from vidar.types import Slots

Span = tuple[int, int]  # [first, last)


@dataclass(frozen=True)
class Group:
    """Neighbouring slots that see the same keys: a span of slots, and spans of keys (none if the slots see nothing)."""

    slots: Span
    keys: tuple[Span, ...]


def starts(slots: Slots) -> Tensor:
    """The first slot of each run, long [M]; all rows of the batch must agree in a run."""
    change = torch.ones(slots.cell.shape[1], dtype=torch.bool)
    different = torch.stack([part[:, 1:] != part[:, :-1] for part in (slots.cell, slots.unit, slots.role)])
    change[1:] = different.any(dim=0).any(dim=0)
    return torch.nonzero(change)[:, 0]


def pick(slots: Slots, index: Tensor) -> Slots:
    """Slots [B, S] -> [B, n]."""
    return Slots(*(getattr(slots, name)[:, index] for name in ("site", "cell", "unit", "role", "coord")))


def groups(view: View) -> list[Group] | None:
    """Visibility by runs, without an S x T mask; None for a view with folds or with differing rows of the batch."""
    if view.relation.fold:
        return None
    q, k = starts(view.q), starts(view.k)
    table = visible(view.relation, pick(view.q, q), pick(view.k, k), view.axes, view.keep)  # [B or 1, Mq, Mk]
    if not bool((table == table[:1]).all()):
        return None
    q_ends, k_ends = _ends(q, view.q), _ends(k, view.k)
    k_first = k.tolist()
    found: list[Group] = []
    for first, last, row in zip(q.tolist(), q_ends, table[0]):
        spans = _join([(k_first[i], k_ends[i]) for i in torch.nonzero(row)[:, 0].tolist()])
        if found and found[-1].keys == spans:
            first = found.pop().slots[0]
        found.append(Group((first, last), spans))
    return found


def _ends(first: Tensor, slots: Slots) -> list[int]:
    return [*first[1:].tolist(), slots.cell.shape[1]]


def _join(spans: list[Span]) -> tuple[Span, ...]:
    """Merge touching spans."""
    joined: list[Span] = []
    for first, last in spans:
        if joined and joined[-1][1] == first:
            first = joined.pop()[0]
        joined.append((first, last))
    return tuple(joined)
