"""Where tasks run: the little that the driver knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vidar.synth.segments import Made, Task


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the world. weights: its fingerprint; dtype: of the network."""

    weights: str
    dtype: str


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and a new one is being started. tasks: of its batch, those without a result."""

    tasks: tuple[Task, ...]
    reason: str


Event = Ready | Made | Lost


class Placement(Protocol):
    """Workers, each of which makes one batch of tasks at a time."""

    @property
    def free(self) -> int:
        """Workers that are ready and have no batch."""
        ...

    def submit(self, tasks: Sequence[Task]) -> None:
        """Hand a batch to a free worker; no two tasks of it have one row."""
        ...

    def wait(self) -> list[Event]:
        """What has happened, at least one event or a worker that became free. Blocks until then.

        Raises VidarError where no worker can load the world.
        """
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...
