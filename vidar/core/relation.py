"""Relation: who reads whom in one mixer, as a rule over cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]  # (cell of the reader, cell of the key) -> bool, broadcast


@dataclass(frozen=True)
class Relation:
    """Who reads whom.

    sees      rule for a QUERY reader
    memory    rule for a MEMORY reader, where it differs
    joint     units in flight read each other (needs units numbered in the order of their commits)
    fold      axes on which reader and key must agree
    capacity  sites its ring keeps (None all, 0 nothing)
    sinks     of these, the first ones, never overwritten
    """

    sees: Rule
    memory: Rule | None = None
    joint: bool = False
    fold: tuple[str, ...] = ()
    capacity: int | None = None
    sinks: int = 0

    def __post_init__(self) -> None:
        if self.capacity is not None and not 0 <= self.sinks <= self.capacity:
            raise ValueError(f"{self.sinks} sinks do not fit a capacity of {self.capacity} sites")

    def place(self, site: Tensor) -> Tensor:
        """The physical ring slot of a site: itself for a sink, else behind the sinks, modulo the rest of the ring."""
        if self.capacity is None:
            return site
        rest = max(self.capacity - self.sinks, 1)
        return torch.where(site < self.sinks, site, self.sinks + (site - self.sinks) % rest)


def table_rule(table: Tensor) -> Rule:
    """A rule from a bool table [C, C]; cells outside the table (nobody) see nothing and are seen by nobody."""
    size = table.shape[0]

    def rule(q: Tensor, k: Tensor) -> Tensor:
        inside = (q >= 0) & (q < size) & (k >= 0) & (k < size)
        return table[q.clamp(0, size - 1), k.clamp(0, size - 1)] & inside

    return rule


def never(q: Tensor, k: Tensor) -> Tensor:
    """A rule that never holds."""
    return (q != q) | (k != k)  # torch.broadcast_shapes would import sympy, a second of a first frame


def causal(q: Tensor, k: Tensor) -> Tensor:
    """Everything up to and including oneself."""
    return k <= q


def own(q: Tensor, k: Tensor) -> Tensor:
    """Only oneself."""
    return k == q


def window(length: int, sinks: int = 0) -> Rule:
    """Causal: oneself, the `length` cells before, and the first `sinks` cells."""

    def rule(q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & ((k >= q - length) | (k < sinks))

    return rule
