"""Adaptive workload scheduling (MMPL, arXiv 2508.03334, section 3.3): which task goes to which worker.

A policy without clock or processes; the driver and the simulator ask the same one. PLAN outranks POP, since the chain
of plans is what bounds the time; then videos that began first, and in them the earliest segment.
Choice: the rank between videos, so that those that began come to an end. Choice: a task goes to the worker that
planned its segment where that one is free, else to one that no ready task would rather have.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection

from vidar.synth.graph import Graph, Item, Kind


def flight_for(workers: int) -> int:
    """Segments in flight that keep so many workers busy. Choice: each makes one while another waits, and one more."""
    return 2 * workers + 1


class Scheduler:
    """in_flight: segments at most that are begun and not yet released.

    A segment is released when it and all earlier ones of its video are populated: until then its plan or its frames
    are kept by somebody. Items name workers by any number.
    """

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self.running: dict[Item, int] = {}  # the worker of each task in work
        self._waits: dict[Item, set[Item]] = {}
        self._after: dict[Item, list[Item]] = {}
        self._ready: tuple[list[Item], ...] = tuple([] for _ in Kind)  # heaps, by kind
        self._home: dict[tuple[int, int], int] = {}  # the worker that planned a segment
        self._wanted: Counter[int] = Counter()  # by ready tasks whose home it is
        self._begun: dict[int, int] = {}  # by video: segments begun
        self._released: dict[int, int] = {}  # by video: segments released
        self._populated: dict[int, set[int]] = {}  # by video: those that wait for an earlier one
        self._flying = 0

    @property
    def flying(self) -> int:
        """Segments in flight."""
        return self._flying

    @property
    def full(self) -> bool:
        """Whether no new segment may be begun."""
        return self._flying >= self.in_flight

    @property
    def empty(self) -> bool:
        """Whether all that was entered is done."""
        return not self._waits and not self.running

    def enter(self, job: int, graph: Graph, done: Collection[Item] = ()) -> None:
        """A video. done: what exists already, with all that it waited for."""
        finished = set(done)
        self._released[job], self._populated[job] = 0, set()
        planned = [item.segment for item in finished]
        self._begun[job] = max(planned, default=-1) + 1
        self._flying += self._begun[job]
        for item in sorted(finished):
            if item.kind is Kind.POP:
                self._release(item)
        for item, first in graph.before.items():
            if item in finished:
                continue
            self._waits[item] = set(first) - finished
            for other in self._waits[item]:
                self._after.setdefault(other, []).append(item)
            if not self._waits[item]:
                self._push(item)

    def next(self, free: Collection[int]) -> tuple[int, Item] | None:
        """A worker of the free ones and what it shall do, which counts as begun; None where nothing can be."""
        item = self._first() if free else None
        if item is None:
            return None
        self._pop(item)
        home = self._home.get((item.job, item.segment))
        worker = home if home in free else min(free, key=lambda one: (self._wanted[one] > 0, one))
        assert worker is not None
        del self._waits[item]
        self.running[item] = worker
        if self._new(item):
            self._begun[item.job] += 1
            self._flying += 1
        return worker, item

    def finished(self, item: Item) -> None:
        """A task is done."""
        worker = self.running.pop(item)
        if item.job not in self._begun:
            return
        if item.kind is Kind.PLAN:
            self._home[item.job, item.segment] = worker
        else:
            self._home.pop((item.job, item.segment), None)
            self._release(item)
        for later in self._after.pop(item, ()):
            if later in self._waits:
                self._waits[later].discard(item)
                if not self._waits[later]:
                    self._push(later)

    def lost(self, item: Item) -> None:
        """A task has come to nothing: it is to be done again."""
        del self.running[item]
        if item.job in self._begun:
            self._waits[item] = set()
            self._push(item)

    def drop(self, job: int) -> None:
        """Nothing more of a video; what comes of it later does not count."""
        for item in [item for item in self._waits if item.job == job]:
            del self._waits[item]
        for heap in self._ready:
            for item in [item for item in heap if item.job == job]:
                self._pop(item)
        self._flying -= self._begun.pop(job) - self._released.pop(job)
        del self._populated[job]

    def _new(self, item: Item) -> bool:
        """Whether it begins a segment."""
        return item.segment >= self._begun[item.job]

    def _first(self) -> Item | None:
        """The first of the ready tasks that may begin."""
        plans, pops = self._ready
        if plans and not (self.full and self._new(plans[0])):
            return plans[0]
        again = [item for item in plans if not self._new(item)]  # of a lost worker
        return min(again, default=pops[0] if pops else None)

    def _push(self, item: Item) -> None:
        heapq.heappush(self._ready[item.kind], item)
        home = self._home.get((item.job, item.segment))
        if home is not None:
            self._wanted[home] += 1

    def _pop(self, item: Item) -> None:
        heap = self._ready[item.kind]
        if heap[0] == item:
            heapq.heappop(heap)
        else:
            heap.remove(item)
            heapq.heapify(heap)
        home = self._home.get((item.job, item.segment))
        if home is not None:
            self._wanted[home] -= 1

    def _release(self, item: Item) -> None:
        waiting = self._populated[item.job]
        waiting.add(item.segment)
        while self._released[item.job] in waiting:
            waiting.discard(self._released[item.job])
            self._released[item.job] += 1
            self._flying -= 1
