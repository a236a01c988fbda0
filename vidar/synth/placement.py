"""Where tasks run: the little that the driver knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vidar.synth.planning import Planned, PlanTask, PopTask
from vidar.synth.segments import SegmentResult, Task

Work = Task | PlanTask | PopTask

POLL = 1.0  # seconds that `wait` waits for at most, so that its caller can look at other things


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the world. weights: its fingerprint; dtype: of the network."""

    weights: str
    dtype: str


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and a new one is being started. tasks: of its batch, those without a result."""

    tasks: tuple[Work, ...]
    reason: str


Event = Ready | SegmentResult | Planned | Lost


class Placement(Protocol):
    """Workers, each of which makes one batch of tasks at a time. They have numbers, which their successors inherit."""

    @property
    def free(self) -> list[int]:
        """Workers that are ready and have no batch."""
        ...

    def submit(self, worker: int, tasks: Sequence[Work]) -> None:
        """Hand a batch to a free worker; no two tasks of it have one row."""
        ...

    def wait(self) -> list[Event]:
        """What has happened. Blocks until there is an event or a worker became free, `POLL` seconds at most.

        Raises VidarError where no worker can load the world.
        """
        ...

    def stop(self, worker: int, reason: str) -> None:
        """Kill a worker that hangs; `wait` will say that it is lost."""
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...
