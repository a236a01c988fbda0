"""System: the record that the config of a model compiles to. Code above the core takes a System and a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from vidar.core.frames import FrameMap
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.schedules import OneByOne, Schedule, refinements

Asked = TypeVar("Asked", bound=Objective, covariant=True)  # the objective


@dataclass(frozen=True)
class System(Generic[Asked]):
    """order, grid: what is generated together and what sees what. objective: what a unit contains.

    frames: frames <-> units.

    schedule: when each unit of an endless stream is generated; a finite order runs by waves.
    """

    order: Order
    grid: Grid
    objective: Asked
    frames: FrameMap
    schedule: Schedule = OneByOne()

    @property
    def in_turn(self) -> bool:
        """Whether one group of frames is made after another, each alone: between them nothing is in flight."""
        return self.frames.chained or self.in_stream

    @property
    def in_stream(self) -> bool:
        """Whether that is one endless stream, whose keys are kept from group to group."""
        return self.order.endless and self.schedule.depth(refinements(self.objective)) == 1 == self.schedule.pending

    @property
    def interactive(self) -> bool:
        """Whether each frame of a stream is made by itself, when what it is told is known."""
        return self.in_stream and len(self.frames.frames(0)) == 1
