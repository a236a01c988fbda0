"""A discrete-event simulator of workers and the tasks of planned videos, under the policy of the driver.

It replays measured task times. For one video of S segments with c_plan and c_pop seconds each:
makespan >= S c_plan + c_pop, and >= S (c_plan + c_pop) / workers, with equality for one worker.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from vidar.synth.graph import Graph, Item
from vidar.synth.schedule import Scheduler

Cost = Callable[[Item], float]  # seconds of a task


class Span(NamedTuple):
    """The time that a task took on a worker, in seconds from a common origin."""

    worker: int
    item: Item
    start: float
    end: float


def simulate(graphs: Sequence[Graph], cost: Cost, workers: int, in_flight: int) -> list[Span]:
    """The spans of all tasks, in the order in which they end. The tasks of graphs[n] belong to job n.

    Raises ValueError if a cost is not positive.
    """
    policy = Scheduler(in_flight)
    for job, graph in enumerate(graphs):
        policy.enter(job, graph)
    free = set(range(workers))
    running: list[tuple[float, Item, float, int]] = []  # end, task, start, worker
    spans: list[Span] = []
    now = 0.0
    while not policy.empty:
        while (given := policy.next(free)) is not None:
            worker, item = given
            seconds = cost(item)
            if not seconds > 0:
                raise ValueError(f"{item} takes {seconds} seconds; give what was measured")
            free.discard(worker)
            heapq.heappush(running, (now + seconds, item, now, worker))
        now = running[0][0]
        while running and running[0][0] == now:
            end, item, start, worker = heapq.heappop(running)
            policy.finished(item)
            free.add(worker)
            spans.append(Span(worker, item, start, end))
    return spans


def makespan(spans: Sequence[Span]) -> float:
    """Seconds from the first start to the last end."""
    return max(span.end for span in spans) - min(span.start for span in spans)


def utilisation(spans: Sequence[Span], workers: int) -> float:
    """The fraction of the workers' time that was spent on tasks, 0 to 1."""
    return sum(span.end - span.start for span in spans) / (workers * makespan(spans))


def least(graphs: Sequence[Graph], cost: Cost, workers: int) -> float:
    """A lower bound of the makespan: the longest chain, or all work divided by the workers."""
    work = sum(cost(item) for graph in graphs for item in graph.before)
    return max(work / workers, *(graph.longest(cost) for graph in graphs))


def measured(runs: Iterable[Sequence[Span]]) -> Cost:
    """The median time of each task over the runs; a task that did not run gets the median of its kind.

    Raises ValueError for a kind that was not measured.
    """
    by_item: dict[Item, list[float]] = {}
    by_kind: dict[int, list[float]] = {}
    for span in (span for run in runs for span in run):
        by_item.setdefault(span.item, []).append(span.end - span.start)
        by_kind.setdefault(span.item.kind, []).append(span.end - span.start)

    def cost(item: Item) -> float:
        times = by_item.get(item) or by_kind.get(item.kind)
        if times is None:
            raise ValueError(f"no task of kind {item.kind.name} was measured")
        return statistics.median(times)

    return cost
