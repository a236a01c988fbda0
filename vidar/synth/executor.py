"""The loop of the driver: hands tasks to workers, takes what they made, and has lost and hanging ones made again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from vidar.synth.graph import Item
from vidar.synth.manifest import Manifest
from vidar.synth.placement import Lost, Placement, Ready
from vidar.synth.simulate import Span
from vidar.synth.watchdog import Watchdog
from vidar.types import UsageError

MOST_LOSSES = 3  # workers that one task may cost before its job fails


class TaskQueue(Protocol):
    """What is to be made, and in which order. Its tasks and results are its own; both have an `item`."""

    @property
    def empty(self) -> bool:
        """Whether nothing is left to do."""
        ...

    def next(self, free: Sequence[int]) -> tuple[int, Sequence[Any]] | None:
        """One of the free workers and tasks for it; None where there are none now."""
        ...

    def take(self, made: Any) -> None:
        """The result of a task."""
        ...

    def lose(self, task: Any) -> None:
        """A task has cost a worker and is to be made again."""
        ...

    def fail(self, task: Any, error: str) -> None:
        """A task cannot be made: its job fails, what else is in work of it comes to nothing."""
        ...


class Executor:
    """The tasks of one call on their way; each is worked on by one worker at a time.

    spans: of the tasks that are done, in seconds of `time.monotonic`: from a task's start to when its result was taken.
    """

    def __init__(
        self, queue: TaskQueue, placement: Placement, manifest: Manifest, say: Callable[[str], None], watchdog: Watchdog
    ) -> None:
        self.queue, self.placement, self.manifest, self.say, self.watchdog = queue, placement, manifest, say, watchdog
        self.losses: Counter[Item] = Counter()
        self.given: dict[Item, tuple[int, float]] = {}  # tasks in work: the worker and since when
        self.spans: list[Span] = []

    def run(self) -> None:
        """Until nothing is left to do. Raises VidarError where the folder cannot be written."""
        while True:
            while (given := self.queue.next(self.placement.free)) is not None:
                self._give(*given)
            if self.queue.empty:
                return
            for event in self.placement.wait():
                self._take(event)
            for item, reason in self.watchdog.overdue().items():
                self.placement.stop(self.given[item][0], reason)

    def _give(self, worker: int, tasks: Sequence[Any]) -> None:
        self.placement.submit(worker, tasks)
        for task in tasks:
            self.given[task.item] = worker, time.monotonic()
            self.watchdog.begin(task.item, task.size)

    def _take(self, event: Any) -> None:
        if isinstance(event, Ready):
            self._check(event)
        elif isinstance(event, Lost):
            self._lost(event)
        else:
            worker, start = self.given.pop(event.item)
            self.watchdog.end(event.item, True)
            self.spans.append(Span(worker, event.item, start, time.monotonic()))
            self.queue.take(event)

    def _check(self, worker: Ready) -> None:
        """All workers have the weights that the videos in the folder were made with."""
        header = self.manifest.header
        for name, value in (("weights", worker.weights), ("dtype", worker.dtype)):
            if header.setdefault(name, value) != value:
                raise UsageError(
                    f"{self.manifest.file}: its videos were made with {name} {header[name]}, the model here has "
                    f"{value}; give another folder"
                )

    def _lost(self, lost: Lost) -> None:
        self.say(f"a worker was lost ({lost.reason}); segments to make again: {len(lost.tasks)}")
        for task in lost.tasks:
            del self.given[task.item]
            self.watchdog.end(task.item, False)
            self.losses[task.item] += 1
            if self.losses[task.item] < MOST_LOSSES:
                self.queue.lose(task)
            else:
                what = f"segment {task.item.segment} has cost {MOST_LOSSES} workers"
                self.queue.fail(task, f"{what}; the last: {lost.reason}")
