"""Schedules as configs, and which of them a world can play by."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Protocol, Self, TypeVar

from pydantic import Field

from vidar.config import Config
from vidar.core.order import Order
from vidar.core.schedules import Chunks, OneByOne, Schedule, Staggered, refinements
from vidar.core.step import Step
from vidar.core.system import System
from vidar.orders.config import OrderConfig
from vidar.types import UsageError


class ScheduleConfig(Config):
    """Base of the configs of schedules."""

    @property
    def one_by_one(self) -> bool:
        """Whether a unit is made alone, and committed with the next."""
        return False

    @abstractmethod
    def build(self) -> Schedule:
        """The schedule. It may raise UsageError for a number of calls that does not fit."""


class OneByOneConfig(ScheduleConfig):
    """One unit after the other; its commit rides on the first call of the next."""

    @property
    def one_by_one(self) -> bool:
        """It is."""
        return True

    def build(self) -> OneByOne:
        """The schedule."""
        return OneByOne()


class ChunksConfig(ScheduleConfig):
    """length: units in flight together, refined alike and committed with the next chunk's first call."""

    length: int = Field(ge=1)

    def build(self) -> Chunks:
        """The schedule."""
        return Chunks(self.length)


class PyramidConfig(ScheduleConfig):
    """delay: calls between the begin of a unit and of the next, at most those of a unit (Diffusion Forcing, 10.1)."""

    delay: float = Field(default=1.0, gt=0)

    def build(self) -> Staggered:
        """The schedule."""
        return Staggered(lambda calls: min(self.delay, calls))


class PipelineConfig(ScheduleConfig):
    """stages: units in flight, each a stage of calls / stages steps before the next (MAGI-1, 12)."""

    stages: int = Field(default=2, ge=1)

    def build(self) -> Staggered:
        """The schedule. It raises UsageError for calls that are not whole stages."""
        return Staggered(self._delay)

    def _delay(self, calls: int) -> int:
        if calls % self.stages:
            raise UsageError(f"schedule.stages: {calls} calls a unit are not whole steps of {self.stages} stages")
        return calls // self.stages


class AsynchronousConfig(ScheduleConfig):
    """ar_step: calls between the begin of a unit and of the next; 0: `window` units at once (SkyReels-V2, 13)."""

    ar_step: int = Field(default=1, ge=0)
    window: int = Field(default=4, ge=1)

    def build(self) -> Staggered | Chunks:
        """The schedule. It raises UsageError where more units than the window would be in flight."""
        return Staggered(self._delay) if self.ar_step else Chunks(self.window)

    def _delay(self, calls: int) -> int:
        least = -(-calls // self.window)
        if self.ar_step < least:
            raise UsageError(
                f"schedule.ar_step {self.ar_step}: {calls} calls a unit fill more than the window of {self.window} "
                f"units; use {least} or more"
            )
        return min(self.ar_step, calls)


class RollingConfig(ScheduleConfig):
    """As many units in flight as calls, one level apart, all reading each other; each call emits one (11.4).

    Choice: what leaves is committed with the next call, not by a call of its own; its keys are the same.
    """

    def build(self) -> Staggered:
        """The schedule."""
        return Staggered(lambda calls: 1, both_ways=True)


class Scheduled(Protocol):
    """The config of a world that has a schedule."""

    @property
    def name(self) -> str:
        """Of the world."""
        ...

    @property
    def order(self) -> OrderConfig:
        """Of its frames."""
        ...

    @property
    def schedule(self) -> ScheduleConfig:
        """When each unit is made."""
        ...

    @property
    def by_scales(self) -> bool:
        """Whether frames are predicted scale by scale."""
        ...

    def system(self) -> System[Any]:
        """What it compiles to."""
        ...

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        ...


Played = TypeVar("Played", bound=Scheduled)


def check_schedule(config: Scheduled) -> None:
    """Raises UsageError, one line, where the units of a world cannot be in flight together as its schedule says."""
    together = config.order.together
    if together is not None and config.schedule != ChunksConfig(length=together):
        raise UsageError(
            f"world {config.name!r} makes order.chunk frames together; its schedule is ChunksConfig with length "
            f"{together}"
        )
    if config.schedule.one_by_one:
        return
    if config.order.in_parts:
        raise UsageError(f"world {config.name!r} makes its frames part by part, one by one; leave schedule out")
    if config.by_scales:
        raise UsageError(f"world {config.name!r} predicts its frames scale by scale, one by one; leave schedule out")
    system = config.system()
    order, grid, schedule, calls = system.order, system.grid, system.schedule, refinements(system.objective)
    depth, name, most = schedule.depth(calls), config.name, 4 * schedule.depth(calls) * calls
    if depth == 1:
        return
    relations = order.relations.values()
    if not any(relation.joint for relation in relations):
        raise UsageError(f"world {name!r}: its {depth} units in flight do not read each other; order.in_flight={depth}")
    first, last = (grid.cell(grid.sites(unit)[:1]) for unit in (order.reach, order.reach + depth - 1))
    if schedule.both_ways and not any(bool(relation.sees(first, last).all()) for relation in relations):
        raise UsageError(
            f"world {name!r}: its {depth} units in flight do not read the later ones; order.forward=true and "
            f"order.in_flight={depth}"
        )
    if depth > order.reach:
        raise UsageError(f"world {name!r}: {depth} units in flight do not fit its window of {order.reach}")
    steps = partial(schedule.steps, system.objective, system.frames)
    if not any(_in_turn_known(order, steps(), first, most) for first in range(depth + 1)):
        raise UsageError(
            f"world {name!r} makes a unit from the code of one before (objective.hint) that would be in flight with it;"
            " use a schedule with one unit in flight, or train a world without a hint"
        )


def _in_turn_known(order: Order, steps: Iterator[Step], first: int, calls: int) -> bool:
    """Whether in these calls, from unit `first` on, every unit begins when all that its input needs is finished."""
    clock, begun, done = first, set[int](), set(range(first))
    for step in islice(steps, calls):
        fresh = {clock + row.unit for row in step.rows if row.step is not None} - begun
        if any(order.need(unit, v) for unit in fresh for v in range(max(0, unit - order.reach), unit) if v not in done):
            return False
        begun |= fresh
        clock += step.advance
        done |= set(range(clock))
    return True


def with_schedule(config: Played, schedule: ScheduleConfig) -> Played:
    """A world that plays by another schedule, its order letting what is in flight read each other.

    One that was trained frame by frame has never seen a frame in flight before another. Raises UsageError where the
    schedule does not fit.
    """
    made, calls = schedule.build(), refinements(config.system().objective)
    return config.replace(schedule=schedule, order=config.order.flying(made.depth(calls), made.both_ways))
