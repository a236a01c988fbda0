"""P2: what is decided at run time leaves a trace, and the replay of the trace equals the oracle."""

from dataclasses import replace

import pytest
import torch
from cases import BY_NAME, endless_frames, flow
from test_p1b import TOLERANCE, largest_difference
from toys import OracleModel

from vidar.core.step import Row, Step, by_waves
from vidar.orders.frame import frame_order
from vidar.types import MEMORY, QUERY


def adaptive(state, count):
    """Frames whose number in flight depends on what was generated: a bright frame makes the next two joint."""
    made = 0
    while made < count:
        codes = state.rows[0].codes
        bright = made > 0 and float(codes[made - 1].mean()) > 0
        together = min(2 if bright else 1, count - made)
        for i in range(2):
            yield Step(tuple(Row(u, QUERY, i) for u in range(together)))
        yield Step(tuple(Row(u, MEMORY, None) for u in range(together)), together)
        made += together


def adaptive_case():
    order, grid = frame_order(1, 2, 9, 4, in_flight=2)
    case = BY_NAME["chunk in flight, joint window"]

    def before(q, k):  # the adaptive rule looks at the code of the frame before
        return k == q - 1

    return case.but(order=replace(order, needs=before), grids=[grid], objective=flow(grid))


def test_adaptive_schedule_is_replayed_from_its_trace():
    case = adaptive_case()
    state = case.ring_state()
    codes = case.run(state, schedule=adaptive(state, 9))
    trace = state.trace
    sizes = [len(step.rows) for step in trace]
    assert {1, 2} == set(sizes), "the schedule never adapted"
    assert largest_difference(codes, case.run_oracle(schedule=trace)) < TOLERANCE
    short = trace[: sizes.index(2)] + trace[sizes.index(2) + 3 :]
    assert case.run_oracle(schedule=short)[0].keys() != codes[0].keys()


def evicting(schedule, state, policy):
    """Run a policy after every Step."""
    for step in schedule:
        yield step
        for relation, row, sites in policy(state):
            state.evict(relation, row, sites)


def forgets_loud_frames(state):
    """A toy policy: after each commit, drop the committed site with the largest key."""
    if not state.trace or not isinstance(state.trace[-1], Step) or not state.trace[-1].advance:
        return
    ring = state.rings["main"]
    for b in range(len(state.rows)):
        size = ring.k[0, b].flatten(1).norm(dim=1).masked_fill(ring.slots.cell[b] < 0, -1)
        yield "main", b, ring.slots.site[b, size.argmax()][None]


def replay(trace, state):
    """A trace as a schedule: Steps are run, evictions are repeated."""
    for entry in trace:
        if isinstance(entry, Step):
            yield entry
        else:
            state.evict(entry[0], entry[1], torch.tensor(entry[2]))


@pytest.fixture
def evicted():
    case = endless_frames(False, past=3, batch=2, count=9)
    state = case.ring_state()
    return case, case.run(state, schedule=evicting(case.schedule(), state, forgets_loud_frames)), state.trace


def test_eviction_is_replayed_from_its_trace(evicted):
    case, result, trace = evicted
    assert sum(not isinstance(entry, Step) for entry in trace) == 2 * 9
    oracle = case.oracle()
    replayed = case.run(oracle, OracleModel(case.model, case.order, case.cond), replay(trace, oracle))
    assert largest_difference(result, replayed) < TOLERANCE


def test_eviction_matters_and_a_dropped_trace_entry_fails(evicted):
    case, result, trace = evicted
    oracle = case.oracle()
    first = next(n for n, entry in enumerate(trace) if not isinstance(entry, Step))
    model, short = OracleModel(case.model, case.order, case.cond), trace[:first] + trace[first + 1 :]
    replayed = case.run(oracle, model, replay(short, oracle))
    assert largest_difference(result, replayed) > 1e-3


def test_a_trace_of_a_static_schedule_is_the_schedule():
    case = BY_NAME["frame, eager"]
    state = case.ring_state()
    case.run(state)
    assert state.trace == list(by_waves(case.order, case.objective.passes))
