"""Adaptive workload scheduling (MMPL, arXiv 2508.03334, section 3.3): which worker does which task.

A policy without clock or processes, used by the driver and by the simulator. PLAN comes before POP, since the chain of
plans bounds the time; then earlier videos before later ones, and in a video earlier segments before later ones.
Choice: the order of videos, so that those that have begun are finished first. Choice: a task goes to the worker that
planned its segment if that one is free, otherwise to one that is not the preferred worker of another ready task.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection

from vidar.synth.graph import Graph, Item, Kind


def flight_for(workers: int) -> int:
    """Number of segments in flight that keep a number of workers busy. Choice: two per worker, and one more."""
    return 2 * workers + 1


class Scheduler:
    """Decides which ready task starts next, and on which worker. Workers are identified by any numbers.

    in_flight: largest number of segments that have begun and are not yet released. A segment is released when it and
    all earlier ones of its video are populated; until then its plan or its frames are held in memory.
    """

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self.running: dict[Item, int] = {}  # the worker of each running task
        self._waits: dict[Item, set[Item]] = {}
        self._after: dict[Item, list[Item]] = {}
        self._ready: tuple[list[Item], ...] = tuple([] for _ in Kind)  # heaps, by kind
        self._home: dict[tuple[int, int], int] = {}  # the worker that planned a segment
        self._wanted: Counter[int] = Counter()  # number of ready tasks whose segment the worker planned
        self._begun: dict[int, int] = {}  # by video: number of segments that have begun
        self._released: dict[int, int] = {}  # by video: number of released segments
        self._populated: dict[int, set[int]] = {}  # by video: populated segments that wait for an earlier one
        self._flying = 0

    @property
    def flying(self) -> int:
        """Number of segments in flight."""
        return self._flying

    @property
    def full(self) -> bool:
        """Whether no new segment may begin."""
        return self._flying >= self.in_flight

    @property
    def empty(self) -> bool:
        """Whether all entered tasks are finished."""
        return not self._waits and not self.running

    def enter(self, job: int, graph: Graph, done: Collection[Item] = ()) -> None:
        """Add the tasks of a video. done: tasks that are already finished, including those that they depend on."""
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
        """Start a task: one of the free workers, and the task for it. None if no task can start now."""
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
        """Note that a task is finished."""
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
        """Note that a task was lost with its worker; it becomes ready again."""
        del self.running[item]
        if item.job in self._begun:
            self._waits[item] = set()
            self._push(item)

    def drop(self, job: int) -> None:
        """Remove the tasks of a video; results of its running tasks are ignored."""
        for item in [item for item in self._waits if item.job == job]:
            del self._waits[item]
        for heap in self._ready:
            for item in [item for item in heap if item.job == job]:
                self._pop(item)
        self._flying -= self._begun.pop(job) - self._released.pop(job)
        del self._populated[job]

    def _new(self, item: Item) -> bool:
        """Whether a task begins a segment."""
        return item.segment >= self._begun[item.job]

    def _first(self) -> Item | None:
        """The most urgent ready task that may begin."""
        plans, pops = self._ready
        if plans and not (self.full and self._new(plans[0])):
            return plans[0]
        again = [item for item in plans if not self._new(item)]  # tasks of lost workers
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
