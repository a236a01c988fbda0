"""Relation: which cells read which in one mixer, as a rule over cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vidar.core.placement import CyclicPlacement, Placement

Rule = Callable[[Tensor, Tensor], Tensor]  # (cell of the reader, cell of the key) -> bool, broadcast


@dataclass(frozen=True)
class Relation:
    """Which cells read which.

    sees      rule for a QUERY reader
    memory    rule for a MEMORY reader, if it differs
    joint     units in flight read each other (their numbers must follow the order of their commits)
    fold      axes on which reader and key must have equal coordinates
    capacity  number of sites that its ring keeps (None: all, 0: none)
    sinks     number of first sites among these that are never overwritten
    placement where its ring keeps them; None: cyclically behind the sinks
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
        """Where its ring keeps a site; None: every site is kept at its own number."""
        if self.placement is not None or self.capacity is None:
            return self.placement
        return CyclicPlacement(self.capacity, self.sinks)


def table_rule(table: Tensor) -> Rule:
    """A rule from a bool table [C, C]. Cells outside the table (padding) see nothing and are not seen."""
    size = table.shape[0]

    def rule(q: Tensor, k: Tensor) -> Tensor:
        inside = (q >= 0) & (q < size) & (k >= 0) & (k < size)
        return table[q.clamp(0, size - 1), k.clamp(0, size - 1)] & inside

    return rule


def never(q: Tensor, k: Tensor) -> Tensor:
    """A rule that never holds; q and k are cells long [..] that broadcast, as in every rule."""
    return (q != q) | (k != k)  # torch.broadcast_shapes would import sympy, which delays a first frame by a second


def causal(q: Tensor, k: Tensor) -> Tensor:
    """Everything up to and including the reader itself."""
    return k <= q


def own(q: Tensor, k: Tensor) -> Tensor:
    """Only the reader itself."""
    return k == q


def window(length: int, sinks: int = 0) -> Rule:
    """Causal: the reader itself, the `length` cells before it, and the first `sinks` cells."""

    def rule(q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & ((k >= q - length) | (k < sinks))

    return rule
