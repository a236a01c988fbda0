"""Configs of schedules, and the check that a world can use one."""

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
        """Whether units are generated one by one, each committed with the next."""
        return False

    @abstractmethod
    def build(self) -> Schedule:
        """The schedule. The schedule may raise UsageError for a number of calls that does not fit."""


class OneByOneConfig(ScheduleConfig):
    """One unit after another; a unit is committed in the first call of the next one."""

    @property
    def one_by_one(self) -> bool:
        """Always true."""
        return True

    def build(self) -> OneByOne:
        """The schedule."""
        return OneByOne()


class ChunksConfig(ScheduleConfig):
    """Chunks of `length` units, refined together and committed in the first call of the next chunk."""

    length: int = Field(ge=1)

    def build(self) -> Chunks:
        """The schedule."""
        return Chunks(self.length)


class PyramidConfig(ScheduleConfig):
    """Pyramid scheduling (Diffusion Forcing, arXiv 2407.01392, scheduling matrix).

    delay: number of calls between the starts of two consecutive units, at most the calls of a unit.
    """

    delay: float = Field(default=1.0, gt=0)

    def build(self) -> Staggered:
        """The schedule."""
        return Staggered(lambda calls: min(self.delay, calls))


class PipelineConfig(ScheduleConfig):
    """Pipeline of chunks (MAGI-1, arXiv 2505.13211): `stages` units in flight, each calls / stages steps apart."""

    stages: int = Field(default=2, ge=1)

    def build(self) -> Staggered:
        """The schedule. It raises UsageError if the calls do not divide into the stages."""
        return Staggered(self._delay)

    def _delay(self, calls: int) -> int:
        if calls % self.stages:
            raise UsageError(f"schedule.stages: {calls} calls per unit do not divide into {self.stages} stages")
        return calls // self.stages


class AsynchronousConfig(ScheduleConfig):
    """Asynchronous denoising (SkyReels-V2, arXiv 2504.13074).

    ar_step: number of calls between the starts of two consecutive units; 0: `window` units start together.
    """

    ar_step: int = Field(default=1, ge=0)
    window: int = Field(default=4, ge=1)

    def build(self) -> Staggered | Chunks:
        """The schedule. It raises UsageError if more than `window` units would be in flight."""
        return Staggered(self._delay) if self.ar_step else Chunks(self.window)

    def _delay(self, calls: int) -> int:
        least = -(-calls // self.window)
        if self.ar_step < least:
            raise UsageError(
                f"schedule.ar_step {self.ar_step}: with {calls} calls per unit more units than the window of "
                f"{self.window} would be in flight; use {least} or more"
            )
        return min(self.ar_step, calls)


class RollingConfig(ScheduleConfig):
    """Rolling Forcing (arXiv 2509.25161): one unit in flight per call, one level apart; each call finishes one unit.

    All units in flight read each other. Choice: a finished unit is committed with the next call, not by a call of its
    own; its keys are the same.
    """

    def build(self) -> Staggered:
        """The schedule."""
        return Staggered(lambda calls: 1, both_ways=True)


class Scheduled(Protocol):
    """The config of a world that has a schedule."""

    @property
    def name(self) -> str:
        """Name of the world."""
        ...

    @property
    def order(self) -> OrderConfig:
        """Order of its frames."""
        ...

    @property
    def schedule(self) -> ScheduleConfig:
        """When each unit is generated."""
        ...

    @property
    def by_scales(self) -> bool:
        """Whether the world predicts frames scale by scale."""
        ...

    def system(self) -> System[Any]:
        """The System that the config compiles to."""
        ...

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        ...


Played = TypeVar("Played", bound=Scheduled)


def check_schedule(config: Scheduled) -> None:
    """Raises UsageError, in one line, if the units of a world cannot be in flight together as its schedule requires."""
    together = config.order.together
    if together is not None and config.schedule != ChunksConfig(length=together):
        raise UsageError(
            f"world {config.name!r} makes order.chunk frames together; set its schedule to ChunksConfig with length "
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
        raise UsageError(
            f"world {name!r}: its {depth} units in flight do not read each other; set order.in_flight={depth}"
        )
    first, last = (grid.cell(grid.sites(unit)[:1]) for unit in (order.reach, order.reach + depth - 1))
    if schedule.both_ways and not any(bool(relation.sees(first, last).all()) for relation in relations):
        raise UsageError(
            f"world {name!r}: its {depth} units in flight do not read the later ones; set order.forward=true and "
            f"order.in_flight={depth}"
        )
    if depth > order.reach:
        raise UsageError(f"world {name!r}: {depth} units in flight do not fit its window of {order.reach}")
    steps = partial(schedule.steps, system.objective, system.frames)
    if not any(_in_turn_known(order, steps(), first, most) for first in range(depth + 1)):
        raise UsageError(
            f"world {name!r} makes a unit from the code of an earlier one (objective.hint) that would be in flight "
            "with it; use a schedule with one unit in flight, or train a world without a hint"
        )


def _in_turn_known(order: Order, steps: Iterator[Step], first: int, calls: int) -> bool:
    """Whether every unit, from `first` on, starts only after all units that its input needs are finished."""
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
    """The same world with another schedule; its order is changed so that units in flight read each other.

    A world that was trained frame by frame has never seen a frame in flight before another. Raises UsageError if the
    schedule does not fit.
    """
    made, calls = schedule.build(), refinements(config.system().objective)
    return config.replace(schedule=schedule, order=config.order.flying(made.depth(calls), made.both_ways))
