"""P1b: every call of every schedule equals the oracle that recomputes all committed rows beside it."""

from dataclasses import replace
from itertools import islice

import pytest
from cases import BY_NAME, CASES, endless_frames, flow, guidance, latents, text_frames

from vidar.cache.list import ListState
from vidar.cache.ring import RingState
from vidar.cache.store import Ring
from vidar.core.relation import Relation, never, table_rule, window
from vidar.core.step import by_waves, endless, prefill
from vidar.objectives.context import CleanConfig

TOLERANCE = 1e-12


def largest_difference(a, b):
    """Of all codes and all outputs, relative to the largest activation."""
    (codes_a, calls_a), (codes_b, calls_b) = a, b
    assert codes_a.keys() == codes_b.keys() and len(calls_a.calls) == len(calls_b.calls)
    worst = 0.0
    for (layout, _, x), (_, _, y) in zip(calls_a.calls, calls_b.calls):
        occupied = (layout.slots.cell >= 0).expand(x.shape[:2])
        if occupied.any():
            worst = max(worst, float((x - y)[occupied].abs().max() / y[occupied].abs().max()))
    for key in codes_a:
        worst = max(worst, float((codes_a[key].double() - codes_b[key].double()).abs().max()))
    return worst


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_cached_decoding_equals_recomputation(case):
    assert largest_difference(case.run_ring(), case.run_oracle()) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_number_of_calls_is_the_formula(case):
    codes, recorder = case.run_ring()
    assert len(recorder.calls) == case.calls
    assert codes, "nothing was generated"


def rows_with_different_clocks():
    """Two streams that have come different ways, side by side in one state."""
    case = endless_frames(True, batch=1)
    alone, states = [], []
    for video, count in ((0, 2), (1, 6)):
        one = case.but(videos=[video])
        state = one.ring_state()
        one.run(state, schedule=islice(endless(2, True), 2 * count))
        states.append(state.fork([0]))
        alone.append(one.run(state, schedule=islice(endless(2, True), 2 * 6))[0])
    both = case.but(grids=case.grids * 2, videos=[0, 1])
    return alone, both.run(RingState.stack(states), schedule=islice(endless(2, True), 2 * 6))[0]


def test_rows_with_different_clocks_do_not_disturb_each_other():
    alone, together = rows_with_different_clocks()
    for b in (0, 1):
        for (_, unit), code in alone[b].items():
            assert float((together[b, unit] - code).abs().max()) < TOLERANCE
    assert {u for b, u in together if b == 0} != {u for b, u in together if b == 1}


def test_padded_guidance_rows_equal_each_text_alone():
    """The shorter text, alone and without padding, gives the same outputs as its padded row."""
    padded = guidance((3, 1)).but(combine=None)
    _, both = padded.run_ring()
    order, grids = text_frames([1], words=1)
    words = {0: padded.codes[0][1:, 2:]}
    objective = flow(grids[0], context=CleanConfig())
    alone = padded.but(order=order, grids=grids, objective=objective, codes=words, videos=[0])
    _, one = alone.run_ring()
    for (layout, _, x), (other, _, y) in zip(both.calls, one.calls):
        real, expected = layout.slots.cell[1] >= 0, other.slots.cell[0] >= 0
        assert float((x[1][real] - y[0][expected]).abs().max()) < TOLERANCE


def test_tasks_joined_by_a_content_edge_equal_the_whole():
    case = BY_NAME["plan"]
    whole, _ = case.run_ring()
    assert case.order.tasks() == [[0, 1, 2, 3], [4, 5, 6, 7]] and case.order.content_edges() == [(4, 1)]
    codes, calls = {}, 0
    for task in case.order.tasks():
        state = case.ring_state()
        for u, v in case.order.content_edges():
            if u in task:
                state.give(v, codes[0, v][None])
        steps = by_waves(case.order, case.objective.passes, case.given, units=task)
        made, recorder = case.run(state, schedule=steps)
        codes, calls = codes | made, calls + len(recorder.calls)
    assert calls == 2 * (3 * 3 + 1)  # each task: waves of plan, fill 1, fill 2, and one prefill
    assert all(float((codes[key] - whole[key]).abs().max()) < TOLERANCE for key in whole)


def test_a_prefill_longer_than_the_ring_keeps_the_last_sites():
    case = endless_frames(False, past=2, sinks=1)
    given = latents(case.grids[0], range(7))
    at_once = case.but(codes=given, clock=0)
    steps = [prefill(range(7), advance=7), *islice(endless(2), 6)]
    assert largest_difference(at_once.run_ring(schedule=steps), at_once.run_oracle(schedule=steps)) < TOLERANCE
    one_by_one = [prefill([0], advance=1) for _ in range(7)] + list(islice(endless(2), 6))
    a, b = at_once.run_ring(schedule=steps)[0], at_once.run_ring(schedule=one_by_one)[0]
    assert max(float((a[key] - b[key]).abs().max()) for key in a) < TOLERANCE


def test_list_state_equals_ring_state():
    endless_name = "endless, window 3, sinks 0, fused, 1 rows"
    for name in (endless_name, "frame x scale with memory unit", "token raster, prefilled"):
        case = BY_NAME[name]
        state = case.ready(ListState.create(list(case.order.relations), len(case.grids)))
        assert largest_difference(case.run(state), case.run_oracle()) < TOLERANCE


# twins: each of these must fail


def wrong_order(case, **changes):
    relations = {name: replace(r, **changes) for name, r in case.order.relations.items()}
    return replace(case.order, relations=relations)


def test_twin_one_frame_less_of_ring_fails():
    for name in ("endless, window 3, sinks 0, fused, 1 rows", "endless, window 3, sinks 0, eager, 1 rows"):
        case = BY_NAME[name]
        short = case.but(order=wrong_order(case, capacity=2 * 2))
        assert largest_difference(short.run_ring(), case.run_oracle()) > 1e-2


@pytest.mark.parametrize("fused", ["fused", "eager"])
def test_twin_ring_without_the_frame_that_is_made_fails(fused):
    """Where frames are several cells, those of the new one would take the place of what its last one still reads."""
    case = BY_NAME[f"endless, 1 x 2 cells of a frame, {fused}"]
    short = case.but(order=wrong_order(case, capacity=4))
    assert case.order.relations["main"].capacity == 8
    assert largest_difference(short.run_ring(), case.run_oracle()) > 1e-2


def test_twin_window_plus_one_fails():
    case = BY_NAME["endless, window 3, sinks 0, eager, 1 rows"]
    wide = case.but(order=wrong_order(case, sees=window(4), capacity=8))
    assert largest_difference(wide.run_ring(), case.run_oracle()) > 1e-2


def test_twin_chunk_without_joint_fails():
    case = BY_NAME["chunk in flight, joint window"]
    apart = case.but(order=wrong_order(case, joint=False))
    assert largest_difference(apart.run_ring(), case.run_oracle()) > 1e-2


def test_twin_prefix_rule_for_all_roles_fails():
    case = BY_NAME["chunk in flight, factorised, eager"]
    prefix = replace(case.order.relations["prefix"], memory=None)
    other = case.but(order=replace(case.order, relations={**case.order.relations, "prefix": prefix}))
    assert largest_difference(other.run_ring(), case.run_oracle()) > 1e-3


def test_twin_forgotten_fold_axis_fails():
    case = BY_NAME["chunk in flight, factorised, eager"]
    time = replace(case.order.relations["time"], fold=("y",))
    other = case.but(order=replace(case.order, relations={**case.order.relations, "time": time}))
    assert largest_difference(other.run_ring(), case.run_oracle()) > 1e-3


def test_twin_waves_from_sees_alone_fail():
    """All scales of a clip in one wave: the input of a scale cannot be built, or is built from nothing."""
    case = BY_NAME["clip x scale, needs != sees"]
    assert len(case.order.waves()) == 6
    flat = replace(case.order, needs=never)
    assert len(flat.waves()) == 2 and len(flat.waves()[0]) == 3
    with pytest.raises(KeyError):
        case.but(order=flat).run_ring(schedule=by_waves(flat, case.objective.passes))


def test_twin_mask_from_needs_fails():
    """Masks use `sees` only: letting a scale read what its input needs is another model."""
    case = BY_NAME["clip x scale, needs != sees"]
    wide = table_rule(case.order.sees | case.order.needs_table)
    other = case.but(order=replace(case.order, relations={"main": Relation(wide)}))
    assert largest_difference(other.run_ring(), case.run_oracle()) > 1e-3


def test_twin_prefill_without_its_causal_mask_fails():
    case = BY_NAME["frame, image to video, eager"]
    order = wrong_order(case, memory=lambda q, k: k <= q + 1)
    assert largest_difference(case.but(order=order).run_ring(), case.run_oracle()) > 1e-3


def test_twin_one_ring_index_for_all_rows_fails(monkeypatch):
    """Rows of different clocks write to places of their own."""
    places = Ring.places

    def shared(self, slots, batch):
        write = places(self, slots, batch)
        first = write.place[write.row == 0]
        return replace(write, place=first.repeat(batch), spans=None) if batch > 1 else write

    monkeypatch.setattr(Ring, "places", shared)
    alone, together = rows_with_different_clocks()
    worst = max(float((together[b, u] - code).abs().max()) for b in (0, 1) for (_, u), code in alone[b].items())
    assert worst > 1e-2
