"""Schedules that start units one after another and refine them together: pyramid, pipeline, asynchronous, rolling.

One builder serves them all. With n refinement calls per unit, they differ only in the number of calls between the
starts of two consecutive units:

    pyramid        u, a real number           Diffusion Forcing (the scheduling matrix)
    pipeline       n / W                      MAGI-1: W stages of n / W steps, one unit in each
    asynchronous   ar_step                    SkyReels-V2: `ar_step` rows of its state matrix apart
    rolling        1                          Rolling Forcing: one level apart; a unit is finished with every call
    one by one     n                          `vidar.core.step.endless`
    all at once    0                          `vidar.core.step.chunk`

    call      0  1  2  3  4  5  6     n = 4, delay 2: a number is a refinement step, M the commit
    unit 0    0  1  2  3  M
    unit 1          0  1  2  3  M
    unit 2                0  1  2 ..
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, cycle, islice
from typing import Protocol

from vidar.core.frames import FrameMap
from vidar.core.objective import Objective
from vidar.core.step import Row, Step, chunk, endless
from vidar.types import MEMORY, QUERY


class Schedule(Protocol):
    """When each unit of an endless stream is refined and committed.

    pending: number of context units that the first Step commits. both_ways: whether the units in flight must also
    read later ones.
    """

    @property
    def pending(self) -> int:
        """Number of context units that the first Step commits."""
        ...

    @property
    def both_ways(self) -> bool:
        """Whether the units in flight must also read later ones."""
        ...

    def depth(self, calls: int) -> int:
        """Maximum number of units in flight, for `calls` refinements per unit."""
        ...

    def steps(self, objective: Objective, frames: FrameMap) -> Iterator[Step]:
        """An endless sequence of Steps; units count from the clock."""
        ...


class OneByOne:
    """One unit after another; a unit is committed in the first call of the next one."""

    pending, both_ways = 1, False

    def depth(self, calls: int) -> int:
        """See `Schedule`."""
        return 1

    def steps(self, objective: Objective, frames: FrameMap) -> Iterator[Step]:
        """See `Schedule`."""
        return cycle(self.group(objective, frames))

    def group(self, objective: Objective, frames: FrameMap) -> list[Step]:
        """The calls of one group of frames, which repeat for every group.

        If units are refined, the clock advances by one unit at a time. If units are predicted and committed in one
        call, it advances by a group, whose last unit is then a given one and is committed with the next group.
        """
        units = frames.units(0)
        if objective.passes[-1][1] is None:
            number = refinements(objective)
            return list(islice(endless(number, fused=True), number * len(units)))
        asked = [unit for unit in units if unit not in objective.given]
        calls = [Row(unit, role, k) for unit in asked for role, k in objective.passes]
        before = () if len(asked) == len(units) else (Row(-1, MEMORY, None),)
        steps = [Step((*before, calls[0])), *(Step((row,)) for row in calls[1:])]
        return [*steps[:-1], replace(steps[-1], advance=len(units))]


class Chunks:
    """`length` units in flight together; they are refined in step and committed in the first call of the next chunk."""

    pending, both_ways = 0, False

    def __init__(self, length: int) -> None:
        self.length = length

    def depth(self, calls: int) -> int:
        """See `Schedule`."""
        return self.length

    def steps(self, objective: Objective, frames: FrameMap) -> Iterator[Step]:
        """See `Schedule`."""
        return chunk(None, self.length, refinements(objective), fused=True)


class Staggered:
    """The schedule of `staggered`. delay: maps the calls per unit to the calls between the starts of two units."""

    pending = 0

    def __init__(self, delay: Callable[[int], float], both_ways: bool = False) -> None:
        self.delay, self.both_ways = delay, both_ways

    def depth(self, calls: int) -> int:
        """See `Schedule`."""
        return in_flight(calls, self.delay(calls))

    def steps(self, objective: Objective, frames: FrameMap) -> Iterator[Step]:
        """See `Schedule`."""
        calls = refinements(objective)
        return staggered(None, calls, self.delay(calls))


def refinements(objective: Objective) -> int:
    """Number of model calls per unit, not counting its commit."""
    return sum(k is not None for _, k in objective.passes)


def staggered(num_units: int | None, num_steps: int, delay: float, fused: bool = True) -> Iterator[Step]:
    """Refine unit k in the calls floor(delay k) .. floor(delay k) + num_steps - 1; all units of a call run together.

    Units count from the clock, which points to the first unfinished unit. Units before the first are never touched,
    so the schedule can follow a context. fused: a unit is committed in the call after its last step, otherwise in a
    Step of its own. U units take floor(delay (U - 1)) + num_steps calls, plus, if fused, one for the last commit.
    Endless without `num_units`. Raises ValueError for a delay outside [0, num_steps], or for a delay of 0 in an
    endless schedule.
    """
    if not (delay > 0 or (delay == 0 and num_units is not None)) or delay > num_steps:
        raise ValueError(f"a delay of {delay} calls between units of {num_steps}; it must lie in (0, {num_steps}]")
    first = newest = 0  # units first .. newest - 1 are in flight
    commits: tuple[Row, ...] = ()
    for call in count():
        while (num_units is None or newest < num_units) and math.floor(delay * newest) <= call:
            newest += 1
        steps = [call - math.floor(delay * unit) for unit in range(first, newest)]
        rows = tuple(Row(place, QUERY, step) for place, step in enumerate(steps))
        finished = steps.count(num_steps - 1)
        if not rows and not commits:
            return
        yield Step(commits + rows, finished if fused else 0)
        commits = tuple(Row(place - (finished if fused else 0), MEMORY, None) for place in range(finished))
        if finished and not fused:
            yield Step(commits, finished)
            commits = ()
        first += finished


def in_flight(num_steps: int, delay: float) -> int:
    """Maximum number of units that `staggered` has in flight: ceil(num_steps / delay)."""
    return math.ceil(num_steps / delay)
