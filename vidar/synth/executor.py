"""The loop of the driver: gives tasks to workers, takes results, and repeats the tasks of lost and hanging workers."""

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

MOST_LOSSES = 3  # workers that may be lost with one task before its job fails


class TaskQueue(Protocol):
    """The tasks of a batch and their order. Tasks and results are of its own types; both have an `item`."""

    @property
    def empty(self) -> bool:
        """Whether all tasks are finished."""
        ...

    def next(self, free: Sequence[int]) -> tuple[int, Sequence[Any]] | None:
        """One of the free workers and tasks for it; None if no task can start now."""
        ...

    def take(self, made: Any) -> None:
        """Take the result of a task."""
        ...

    def lose(self, task: Any) -> None:
        """Note that the worker of a task was lost; the task is repeated."""
        ...

    def fail(self, task: Any, error: str) -> None:
        """Note that a task cannot be done: its job fails, and results of its other tasks are ignored."""
        ...


class Executor:
    """Runs the tasks of one call; a task is given to one worker at a time.

    spans: of the finished tasks, in seconds of `time.monotonic`, from the start of a task until its result was taken.
    """

    def __init__(
        self, queue: TaskQueue, placement: Placement, manifest: Manifest, say: Callable[[str], None], watchdog: Watchdog
    ) -> None:
        self.queue, self.placement, self.manifest, self.say, self.watchdog = queue, placement, manifest, say, watchdog
        self.losses: Counter[Item] = Counter()
        self.given: dict[Item, tuple[int, float]] = {}  # running tasks: the worker, and when it started
        self.spans: list[Span] = []

    def run(self) -> None:
        """Run until all tasks are finished. Raises VidarError if the folder cannot be written."""
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
        """Raises UsageError if the videos in the folder were made with other weights than the worker has."""
        header = self.manifest.header
        for name, value in (("weights", worker.weights), ("dtype", worker.dtype)):
            if header.setdefault(name, value) != value:
                raise UsageError(
                    f"{self.manifest.file}: its videos were made with {name} {header[name]}, the model here has "
                    f"{value}; give another folder"
                )

    def _lost(self, lost: Lost) -> None:
        self.say(f"a worker was lost ({lost.reason}); segments to repeat: {len(lost.tasks)}")
        for task in lost.tasks:
            del self.given[task.item]
            self.watchdog.end(task.item, False)
            self.losses[task.item] += 1
            if self.losses[task.item] < MOST_LOSSES:
                self.queue.lose(task)
            else:
                what = f"{MOST_LOSSES} workers were lost while making segment {task.item.segment}"
                self.queue.fail(task, f"{what}; the last one: {lost.reason}")
