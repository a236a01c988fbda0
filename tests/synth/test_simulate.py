"""The simulator against bounds, against a slow one that asks at every tick, and against the best of all schedules."""

import random
from itertools import combinations

import pytest
from PIL import Image

from vidar.synth.gantt import write_gantt
from vidar.synth.graph import Item, Kind, Link, graph_of
from vidar.synth.schedule import flight_for
from vidar.synth.simulate import Span, least, makespan, measured, simulate, utilisation

PLAN, POP = Kind.PLAN, Kind.POP
CHAIN = frozenset({Link(PLAN, PLAN, 1), Link(POP, PLAN, 0)})
EVER = 10**9


def graphs_of(*lengths):
    return [graph_of(CHAIN, n, job) for job, n in enumerate(lengths)]


def costs(plan, pop):
    return lambda item: (plan, pop)[item.kind]


def drawn(seed):
    """Whole seconds for each task, at random, the same whenever it is asked."""
    return lambda item: random.Random(f"{seed}{item}").randint(1, 9)


@pytest.mark.parametrize("workers", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_and_order(workers, seed):
    graphs, cost = graphs_of(12, 5), drawn(seed)
    spans = simulate(graphs, cost, workers, flight_for(workers))
    items = [span.item for span in spans]
    assert len(items) == len(set(items)) == 2 * 17  # each once
    end, start = {s.item: s.end for s in spans}, {s.item: s.start for s in spans}
    assert all(end[first] <= start[item] for graph in graphs for item in graph.before for first in graph.before[item])
    assert all(end[s.item] - start[s.item] == cost(s.item) for s in spans)
    for worker in {span.worker for span in spans}:
        own = sorted((s.start, s.end) for s in spans if s.worker == worker)
        assert all(a[1] <= b[0] for a, b in zip(own, own[1:]))  # one thing at a time
    total = sum(cost(item) for item in items)
    assert makespan(spans) >= least(graphs, cost, workers) >= total / workers
    assert makespan(spans) == total if workers == 1 else makespan(spans) <= total
    assert 0 < utilisation(spans, workers) <= 1


@pytest.mark.parametrize("segments", [1, 4, 30])
def test_enough_workers_reach_the_bound(segments):
    """S c_plan + c_pop, exactly; and G workers are about min(G, (c_plan + c_pop) / c_plan) times as fast."""
    spans = simulate(graphs_of(segments), costs(2.0, 3.0), 1000, EVER)
    assert makespan(spans) == segments * 2 + 3
    two = makespan(simulate(graphs_of(segments), costs(2.0, 3.0), 2, EVER))
    assert two >= max(segments * 5 / 2, segments * 2 + 3)
    assert two <= segments * 5 / 2 + 5


def test_two_segments_by_hand():
    """Two workers, 2 and 3 seconds: 0 stays with what it planned, 1 plans on.

    w0  P0 P0 Q0 Q0 Q0
    w1        P1 P1 Q1 Q1 Q1
    """
    spans = simulate(graphs_of(2), costs(2.0, 3.0), 2, EVER)
    assert sorted(spans, key=lambda s: (s.start, s.worker)) == [
        Span(0, Item(PLAN, 0, 0), 0.0, 2.0),
        Span(0, Item(POP, 0, 0), 2.0, 5.0),
        Span(1, Item(PLAN, 0, 1), 2.0, 4.0),
        Span(1, Item(POP, 0, 1), 4.0, 7.0),
    ]


def ticked(graphs, cost, workers, in_flight):
    """The slow one: at every second, from scratch, what is done and who is free. (start, item), no workers' names."""
    before = {item: first for graph in graphs for item, first in graph.before.items()}
    started, now = {}, 0
    while len(started) < len(before) or any(start + cost(i) > now for i, start in started.items()):
        done = {item for item, start in started.items() if start + cost(item) <= now}
        while sum(start + cost(item) > now for item, start in started.items()) < workers:
            flying = 0
            for job in range(len(graphs)):
                begun = {item.segment for item in started if item.job == job}
                whole = [s for s in begun if all(Item(POP, job, r) in done for r in range(s + 1))]
                flying += len(begun) - len(whole)
            ready = [item for item in before if item not in started and before[item] <= done]
            ready = [item for item in ready if item.kind is POP or flying < in_flight]
            if not ready:
                break
            started[min(ready)] = now
        now += 1
    return {(start, item) for item, start in started.items()}


@pytest.mark.parametrize("seed", range(20))
def test_against_one_that_asks_at_every_tick(seed):
    draw = random.Random(seed)
    graphs = graphs_of(*(draw.randint(1, 6) for _ in range(draw.randint(1, 3))))
    workers, in_flight = draw.randint(1, 5), draw.randint(1, 6)
    spans = simulate(graphs, drawn(seed), workers, in_flight)
    assert {(span.start, span.item) for span in spans} == ticked(graphs, drawn(seed), workers, in_flight)


def best(before, cost, workers):
    """The shortest of all schedules in which tasks begin when another one ends: brute force."""

    def go(now, done, running):
        if len(done) + len(running) == len(before) and len(done) == len(before):
            return now
        ready = [i for i in before if i not in done and i not in running and before[i] <= done]
        found = float("inf")
        for count in range(min(workers - len(running), len(ready)) + 1):
            for chosen in combinations(ready, count):
                work = running | {item: now + cost(item) for item in chosen}
                if not work:
                    continue
                end = min(work.values())
                over = {item for item, at in work.items() if at == end}
                found = min(found, go(end, done | over, {i: at for i, at in work.items() if i not in over}))
        return found

    return go(0, frozenset(), {})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_against_the_best_of_all_schedules(seed, workers):
    """Not shorter than the best, which is not shorter than the bounds; and at most Graham's 2 - 1/G times as long."""
    graphs, cost = graphs_of(3), drawn(seed)
    shortest = best(graphs[0].before, cost, workers)
    found = makespan(simulate(graphs, cost, workers, EVER))
    assert least(graphs, cost, workers) <= shortest <= found <= (2 - 1 / workers) * shortest


def test_more_memory_never_costs_time_for_equal_segments():
    times = [makespan(simulate(graphs_of(20), costs(2.0, 3.0), 3, bound)) for bound in (1, 2, 3, 7, EVER)]
    assert times == sorted(times, reverse=True) and times[0] == 100 and times[-1] == times[-2]


def test_measured_times_are_medians_of_the_same_task():
    def run(plan, pop):
        return [Span(0, Item(PLAN, 0, 0), 1.0, 1.0 + plan), Span(0, Item(POP, 0, 0), 5.0, 5.0 + pop)]

    cost = measured([run(1, 8), run(2, 16), run(64, 32)])
    assert (cost(Item(PLAN, 0, 0)), cost(Item(POP, 0, 0))) == (2, 16)
    assert cost(Item(POP, 3, 7)) == 16
    with pytest.raises(ValueError, match="no task of kind POP was measured"):
        measured([run(1, 1)[:1]])(Item(POP, 0, 0))
    with pytest.raises(ValueError, match="takes 0 seconds"):
        simulate(graphs_of(1), lambda item: 0, 1, 1)


def test_a_picture_of_a_run(tmp_path):
    spans = simulate(graphs_of(4, 2), costs(2.0, 3.0), 3, 7)
    write_gantt(tmp_path / "x.png", spans, "simulated")
    image = Image.open(tmp_path / "x.png").convert("RGB")
    colours = image.getcolors(image.width * image.height) or []
    shares = {colour: count for count, colour in colours}
    assert shares[(255, 127, 14)] > 1000 and shares[(31, 119, 180)] > shares[(255, 127, 14)]  # more is populated
