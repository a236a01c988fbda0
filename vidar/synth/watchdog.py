"""Notices tasks that hang: those that take far longer than other tasks of their kind."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

from vidar.synth.graph import Item

FACTOR, FLOOR, FIRST = 10.0, 60.0, 3600.0
LIKE = 99  # number of tasks of a kind whose times are kept


class Watchdog:
    """Allows a task `factor` times the median time of its kind per frame, and at least `floor` seconds.

    first: seconds that a task may take before any task of its kind has ended. Of the time between two calls at most
    `step` seconds count, since this process may itself have been stopped or may have waited for a disk.
    """

    def __init__(
        self,
        factor: float = FACTOR,
        floor: float = FLOOR,
        first: float = FIRST,
        step: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.factor, self.floor, self.first, self.step = factor, floor, first, step
        self._clock, self._last = clock, clock()
        self._ages: dict[Item, float] = {}
        self._sizes: dict[Item, int] = {}
        self._like: dict[int, deque[float]] = {}

    def begin(self, item: Item, size: int) -> None:
        """Note that a task is given to a worker. size: its number of frames."""
        self._look()
        self._ages[item], self._sizes[item] = 0.0, size

    def end(self, item: Item, done: bool) -> None:
        """Note that a task is done, or that its worker was lost."""
        self._look()
        age, size = self._ages.pop(item), self._sizes.pop(item)
        if done:
            self._like.setdefault(item.kind, deque(maxlen=LIKE)).append(age / size)

    def limit(self, item: Item) -> float:
        """Seconds that a running task may take."""
        like = self._like.get(item.kind)
        return max(self.floor, self.first if not like else self.factor * statistics.median(like) * self._sizes[item])

    def overdue(self) -> dict[Item, str]:
        """The tasks that have taken longer, each with a message."""
        self._look()
        late = {item: self.limit(item) for item, age in self._ages.items() if age > self.limit(item)}
        return {item: f"no answer for {limit:.0f} s, far longer than other tasks took" for item, limit in late.items()}

    def _look(self) -> None:
        now = self._clock()
        passed, self._last = min(now - self._last, self.step), now
        for item in self._ages:
            self._ages[item] += passed
