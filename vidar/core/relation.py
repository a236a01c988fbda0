"""Relation: who reads whom in one mixer, as a rule over cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vidar.core.placement import CyclicPlacement, Placement

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
    placement where its ring keeps them; None: cyclic behind the sinks
    """

    sees: Rule
    memory: Rule | None = None
    joint: bool = False
    fold: tuple[str, ...] = ()
    capacity: int | None = None
    sinks: int = 0
    placement: Placement | None = None

    def __post_init__(self) -> None:
        if self.capacity is not None and not 0 <= self.sinks <= self.capacity:
            raise ValueError(f"{self.sinks} sinks do not fit a capacity of {self.capacity} sites")
        if self.placement is not None and self.placement.size != self.capacity:
            raise ValueError(f"a placement of {self.placement.size} sites in a ring of {self.capacity}")

    @cached_property
    def places(self) -> Placement | None:
        """Where its ring keeps a site; None: all are kept, each at its own number."""
        if self.placement is not None or self.capacity is None:
            return self.placement
        return CyclicPlacement(self.capacity, self.sinks)


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
