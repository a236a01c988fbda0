"""Row and Step: the content of one forward pass.

Schedules are sequences of Steps; this file also holds their builders.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from torch import Tensor

from vidar.core.order import Order
from vidar.types import MEMORY, QUERY, Pass


class Row(NamedTuple):
    """(QUERY, i): refinement step i; (MEMORY, None): commit a known code; (MEMORY, i): predict and commit."""

    unit: int
    role: int
    step: int | None


@dataclass(frozen=True)
class Step:
    """One forward pass. Units count from the clock of each batch row; afterwards the clock advances by `advance`.

    keep: bool [B or 1, 2, C, C] by role of the reader, cell of the reader and cell of the key; and-ed to every
    relation of this call. It says which cell was filled before which, if that is decided at run time. The trace
    stores it with the Step.
    """

    rows: tuple[Row, ...]
    advance: int = 0
    keep: Tensor | None = field(default=None, compare=False)


def twin(units: Iterable[int]) -> tuple[Row, ...]:
    """Training rows with every unit once as QUERY and once as MEMORY (teacher forcing with two copies)."""
    all_units = tuple(units)
    return tuple(Row(u, MEMORY, None) for u in all_units) + tuple(Row(u, QUERY, 0) for u in all_units)


def single(units: Iterable[int]) -> tuple[Row, ...]:
    """Training rows with every unit once, each at its own level (diffusion forcing) or predicting as it commits."""
    return tuple(Row(u, MEMORY, 0) for u in units)


def _refine(passes: Sequence[Pass]) -> list[Pass]:
    return [(role, i) for role, i in passes if i is not None]


def _commits_apart(passes: Sequence[Pass]) -> bool:
    """Whether the commit is a separate pass after the refinement steps."""
    return len(passes) > 1 and passes[-1] == (MEMORY, None)


def by_waves(
    order: Order,
    passes: Sequence[Pass],
    given: Collection[int] = (),
    fused: bool = False,
    units: Collection[int] | None = None,
) -> Iterator[Step]:
    """Run a finite order (or the `units` of one task) wave by wave.

    Given units have no refinement rows. Consecutive waves of given units form one Step (prefill), and given units
    that nothing else reads are left out. fused: commits are written in the first rows of the next Step. An objective
    whose `start` reads outputs of the unit before (passes == ((MEMORY, None),)) must not fuse a prefill.
    """
    inside = set(range(order.num_units or 0)) if units is None else set(units)
    waiting: list[Row] = []  # commits that still have to be written
    for wave in order.waves():
        known = [u for u in wave if u in inside and u in given and order.last_reader(u) >= 0]
        free = [u for u in wave if u in inside and u not in given]
        waiting += [Row(u, MEMORY, None) for u in known]
        if not free:
            continue
        steps = _refine(passes) or [(MEMORY, None)]
        if waiting and not fused:
            yield Step(tuple(waiting))
            waiting = []
        for n, (role, i) in enumerate(steps):
            rows = tuple(Row(u, role, i) for u in free)
            yield Step(tuple(waiting) + rows if n == 0 else rows)
            waiting = [] if n == 0 else waiting
        if _commits_apart(passes):
            waiting = [Row(u, MEMORY, None) for u in free]
            if not fused:
                yield Step(tuple(waiting))
                waiting = []
    if waiting:
        yield Step(tuple(waiting))


def endless(num_steps: int, fused: bool = False) -> Iterator[Step]:
    """One frame after another without end: `num_steps` refinements, then the commit (fused: in the next frame's first
    call).
    """
    refine = [(Row(0, QUERY, i),) for i in range(num_steps)]
    if fused:
        first = (Row(-1, MEMORY, None), *refine[0])
        steps = [Step(rows, int(n == num_steps - 1)) for n, rows in enumerate([first, *refine[1:]])]
    else:
        steps = [Step(rows) for rows in refine] + [Step((Row(0, MEMORY, None),), 1)]
    for _ in count():
        yield from steps


def chunk(num_units: int | None, length: int, num_steps: int, fused: bool = False, first: int = 0) -> Iterator[Step]:
    """`length` units in flight together: num_steps refinements and one commit per chunk, starting with unit `first`.

    Units count from the clock, which advances by `length` per chunk. The last chunk may be shorter.
    """
    starts = count(first, length) if num_units is None else range(first, num_units, length)
    waiting: tuple[Row, ...] = ()
    for begin in starts:
        units = range(length if num_units is None else min(length, num_units - begin))
        commits = tuple(Row(u, MEMORY, None) for u in units)
        for i in range(num_steps):
            rows = tuple(Row(u, QUERY, i) for u in units)
            last = i == num_steps - 1
            yield Step((waiting if i == 0 else ()) + rows, len(units) if last and fused else 0)
            waiting = () if i == 0 else waiting
        if fused:
            waiting = tuple(Row(u - len(units), MEMORY, None) for u in units)
        else:
            yield Step(commits, len(units))
    if waiting:
        yield Step(waiting)


def prefill(units: Collection[int], advance: int = 0) -> Step:
    """One Step that commits units whose codes are already in the state: context, prompt, actions, anchors."""
    return Step(tuple(Row(u, MEMORY, None) for u in units), advance)
