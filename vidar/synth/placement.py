"""The interface between the driver and the workers, wherever they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vidar.synth.planning import Planned, PlanTask, PopTask
from vidar.synth.segments import SegmentResult, Task

Work = Task | PlanTask | PopTask

POLL = 1.0  # longest time in seconds that `wait` blocks, so that its caller can check other things


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the world. weights: the fingerprint of the world; dtype: of its network."""

    weights: str
    dtype: str


@dataclass(frozen=True)
class Lost:
    """A worker was lost, and a new one is being started. tasks: those of its batch that have no result."""

    tasks: tuple[Work, ...]
    reason: str


Event = Ready | SegmentResult | Planned | Lost


class Placement(Protocol):
    """Numbered workers that each process one batch of tasks at a time. A new worker takes the number of a lost one."""

    @property
    def free(self) -> list[int]:
        """Numbers of the workers that are ready and have no batch."""
        ...

    def submit(self, worker: int, tasks: Sequence[Work]) -> None:
        """Give a batch to a free worker. Its tasks are in different rows."""
        ...

    def wait(self) -> list[Event]:
        """The new events. Blocks until there is one or a worker becomes free, at most `POLL` seconds.

        Raises VidarError if no worker can load the world.
        """
        ...

    def stop(self, worker: int, reason: str) -> None:
        """Kill a worker that hangs; `wait` then returns a `Lost` for it."""
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...
