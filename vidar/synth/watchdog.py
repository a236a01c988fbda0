"""Notices tasks that hang: those that take far longer than their like."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

from vidar.synth.graph import Item

FACTOR, FLOOR, FIRST = 10.0, 60.0, 3600.0
LIKE = 99  # tasks of a kind that are remembered


class Watchdog:
    """A task may take `factor` times the median of its kind, per frame, but `floor` seconds in any case.

    first: seconds that it may take where none of its kind has ended. Only time in which somebody looks counts, and of
    the time between two looks at most `step`: what was stopped itself, or waited for a disk, knows nothing of others.
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
        """A task of so many frames is given to a worker."""
        self._look()
        self._ages[item], self._sizes[item] = 0.0, size

    def end(self, item: Item, done: bool) -> None:
        """It is done, or its worker is gone."""
        self._look()
        age, size = self._ages.pop(item), self._sizes.pop(item)
        if done:
            self._like.setdefault(item.kind, deque(maxlen=LIKE)).append(age / size)

    def limit(self, item: Item) -> float:
        """Seconds that a task in work may take."""
        like = self._like.get(item.kind)
        return max(self.floor, self.first if not like else self.factor * statistics.median(like) * self._sizes[item])

    def overdue(self) -> dict[Item, str]:
        """Tasks that have taken longer, and what is to be said of each."""
        self._look()
        late = {item: self.limit(item) for item, age in self._ages.items() if age > self.limit(item)}
        return {item: f"no answer for {limit:.0f} s, far longer than its like" for item, limit in late.items()}

    def _look(self) -> None:
        now = self._clock()
        passed, self._last = min(now - self._last, self.step), now
        for item in self._ages:
            self._ages[item] += passed
