"""Units that begin one after another and are refined side by side: pyramid, pipeline, asynchronous, rolling window.

One builder serves them all. With n refinement calls a unit, only the calls between the begin of two units differ:

    pyramid        u, a real number           Diffusion Forcing, the scheduling matrix (causal-diffusion 10.1)
    pipeline       n / W                      MAGI-1, W stages of n / W steps, a unit in each (12)
    asynchronous   ar_step                    SkyReels-V2, `ar_step` rows of its state matrix apart (13)
    rolling        1                          Rolling Forcing, one level apart, a unit leaves with every call (11.4)
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

    pending: units of the context that the first Step commits. both_ways: the units in flight have to read the later
    ones too.
    """

    @property
    def pending(self) -> int:
        """See above."""
        ...

    @property
    def both_ways(self) -> bool:
        """See above."""
        ...

    def depth(self, calls: int) -> int:
        """Units in flight at most, for `calls` refinements of a unit."""
        ...

    def steps(self, objective: Objective, frames: FrameMap) -> Iterator[Step]:
        """Steps without an end, units counted from the clock."""
        ...


class OneByOne:
    """One unit after the other; its commit rides on the first call of the next."""

    pending, both_ways = 1, False

    def depth(self, calls: int) -> int:
        """See `Schedule`."""
        return 1

    def steps(self, objective: Objective, frames: FrameMap) -> Iterator[Step]:
        """See `Schedule`."""
        return cycle(self.group(objective, frames))

    def group(self, objective: Objective, frames: FrameMap) -> list[Step]:
        """The calls of one group of frames, which come again and again.

        What is refined moves the clock unit by unit. What is predicted and committed in one call moves it by a group,
        whose last unit then is a given one, and is committed with the next group.
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
    """`length` units in flight together, refined alike and committed with the next chunk's first call."""

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
    """`staggered`. delay: calls of a unit -> calls between the begin of two units."""

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
    """Calls of the model for a unit, its commit apart."""
    return sum(k is not None for _, k in objective.passes)


def staggered(num_units: int | None, num_steps: int, delay: float, fused: bool = True) -> Iterator[Step]:
    """Unit k is refined in the calls floor(delay k) .. floor(delay k) + num_steps - 1, all units of a call together.

    Units count from the clock, which stands at the first unit that is not finished; units before the first are never
    touched, so it goes on after a context. Fused: a unit is committed with the call after its last step, else in a Step
    of its own. U units: floor(delay (U - 1)) + num_steps calls, fused and one for the last commit. Endless without
    `num_units`. Raises ValueError for a delay outside [0, num_steps], or of 0 without an end.
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
    """The most units that `staggered` has in flight: ceil(num_steps / delay)."""
    return math.ceil(num_steps / delay)
