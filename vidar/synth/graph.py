"""Tasks of a planned video and their dependencies, derived from its Order (MMPL, arXiv 2508.03334, section 3.3).

A segment is a connected component of `sees`; only codes are passed between segments. PLAN(s): the units of segment s
that another segment needs, and all units before them; POP(s): the other units of s.

    PLAN(0) -> PLAN(1) -> PLAN(2) -> ..
       |          |          |
     POP(0)     POP(1)     POP(2)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import torch
from torch import Tensor

from vidar.core.order import Order
from vidar.types import UsageError


class Kind(IntEnum):
    """The kinds of tasks; the smaller number is more urgent."""

    PLAN = 0
    POP = 1


class Item(NamedTuple):
    """A task of a video."""

    kind: Kind
    job: int
    segment: int


@dataclass(frozen=True)
class Link:
    """A task of kind `later` in segment s waits for the task of kind `earlier` in segment s - back."""

    later: Kind
    earlier: Kind
    back: int


def split(order: Order) -> dict[int, tuple[Kind, int]]:
    """Kind and segment of every unit of a finite order.

    No segment reads the last one: its units have the kinds of the same units in the segment before.
    Raises UsageError if no segment needs another one, or if the segments differ in length.
    """
    segments = order.tasks()
    read = {v for _, v in order.content_edges()}
    before = _closure(order.before)
    kinds: dict[int, Kind] = {}
    for units in segments:
        needed = [v for v in units if v in read]
        kinds |= {u: Kind.PLAN if u in needed or any(before[v, u] for v in needed) else Kind.POP for u in units}
    if len(segments) < 2 or not read:
        raise UsageError("no segment of this order needs another one, so there is nothing to plan ahead")
    last, model = segments[-1], segments[-2]
    if len({len(units) for units in segments}) > 1:
        raise UsageError("the segments of this order differ in length; plan segments of one length")
    if not read & set(last):
        kinds |= {u: kinds[v] for u, v in zip(last, model, strict=True)}
    return {u: (kinds[u], number) for number, units in enumerate(segments) for u in units}


def links(order: Order) -> frozenset[Link]:
    """The dependencies of the tasks of a planned order; the same for any number of segments from two on.

    Raises UsageError like `split`, and if a segment waits for a later one.
    """
    where = split(order)
    found: set[Link] = set()
    for u, v in torch.nonzero(order.before).tolist():
        (later, s), (earlier, r) = where[u], where[v]
        if (later, s) != (earlier, r):
            found.add(Link(later, earlier, s - r))
    if any(link.back < 0 for link in found):
        raise UsageError("a segment of this order waits for a later one; segments are made from the first to the last")
    return frozenset(found)


@dataclass(frozen=True)
class Graph:
    """before: for every task the tasks that must be finished first. Raises ValueError for a cycle."""

    before: Mapping[Item, frozenset[Item]]

    def __post_init__(self) -> None:
        try:
            self.sorted()
        except CycleError as error:
            raise ValueError(f"tasks wait for one another: {' <- '.join(map(str, error.args[1]))}") from None

    def sorted(self) -> list[Item]:
        """The tasks in an order in which each comes after those it waits for."""
        return list(TopologicalSorter(self.before).static_order())

    def longest(self, cost: Callable[[Item], float]) -> float:
        """The cost of the longest chain of tasks, a lower bound for any number of workers."""
        done: dict[Item, float] = {}
        for item in self.sorted():
            done[item] = cost(item) + max((done[first] for first in self.before[item]), default=0.0)
        return max(done.values(), default=0.0)

    @property
    def depth(self) -> int:
        """Number of tasks in the longest chain."""
        return round(self.longest(lambda item: 1.0))


def graph_of(pattern: frozenset[Link], segments: int, job: int = 0) -> Graph:
    """The tasks of a video with a number of segments, and their dependencies."""
    before: dict[Item, frozenset[Item]] = {}
    for number in range(segments):
        for kind in Kind:
            first = {
                Item(link.earlier, job, number - link.back)
                for link in pattern
                if link.later is kind and number >= link.back
            }
            before[Item(kind, job, number)] = frozenset(first)
    return Graph(before)


def _closure(table: Tensor) -> Tensor:
    """The transitive closure of a relation, bool [U, U]: whether a path leads from u to v."""
    reach = table.clone()
    while True:
        longer = reach | (reach.float() @ reach.float() > 0)
        if torch.equal(longer, reach):
            return reach
        reach = longer
