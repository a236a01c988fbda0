"""P4: decode a, mark, junk, rewind, decode b == decode a, b, in bits."""

from itertools import islice

import pytest
import torch
from cases import BY_NAME, endless_frames

from vidar.cache.ring import RingState
from vidar.core.decode import Decoder
from vidar.core.step import endless
from vidar.rng import Rng


def decoder(case, seed=None):
    rngs = case.rngs if seed is None else [Rng(seed, b) for b in range(len(case.grids))]
    return Decoder(case.model, case.order, case.grids, case.objective, rngs, case.given, case.cond, case.combine)


def run(player, state, steps):
    with torch.no_grad():
        return [item for step in steps for item in player.step(step, state)]


def tensors(state):
    rings = [t for r in state.rings.values() for t in (r.k, r.v, r.slots.site, r.slots.cell, r.slots.coord)]
    small = [c for row in state.rows for c in [*row.codes.values(), *leaves(tuple(row.x.values()))]]
    return [t.clone() for t in rings + small]


def by_row(state):
    """Bits of the rings and of the small parts of each row."""
    return [
        [t.clone() for r in state.rings.values()
         for t in (r.k[:, b], r.v[:, b], r.slots.site[b], r.slots.cell[b], r.slots.coord[b], r.slots.unit[b])]
        + [torch.tensor(row.clock), *row.codes.values(), *(x.x for x in row.x.values())]
        for b, row in enumerate(state.rows)
    ]  # fmt: skip


def leaves(x):
    """The tensors of what is in flight: of a record, or one alone."""
    return (
        [x] if isinstance(x, torch.Tensor) else [t for part in x for t in leaves(part)] if isinstance(x, tuple) else []
    )


def same_bits(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


def same_codes(a, b):
    return len(a) == len(b) and all(x[:2] == y[:2] and torch.equal(x[2], y[2]) for x, y in zip(a, b))


SITUATIONS = {
    "eager, ring wrapped": (False, 1, 3 * 8, 3 * 9),
    "fused, unit pending": (True, 1, 2 * 8, 2 * 9),
    "inside a refinement": (True, 1, 2 * 8 + 1, 2 * 9 + 1),
    "before the window is full": (False, 1, 3, 3 * 9),
    "several rows": (True, 3, 2 * 8, 2 * 9 + 1),
}


def situation(name):
    fused, batch, before, junk = SITUATIONS[name]
    case = endless_frames(fused, batch=batch)
    steps = list(islice(endless(2, fused), before + 10))
    junk_steps = list(islice(endless(2, fused), before, before + junk))
    return case, steps[:before], junk_steps, steps[before:]


@pytest.mark.parametrize("name", SITUATIONS)
def test_rewind_restores_every_bit(name):
    case, before, junk, after = situation(name)
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, before)
    run(decoder(case), state, before)
    mark = state.mark()
    run(decoder(case, seed=99), state, junk)
    assert not same_bits(tensors(state), tensors(straight))
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight)) and state.trace == straight.trace
    state.release(mark)
    assert state.journal == [[] for _ in state.rows]
    assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


def test_rewind_of_one_row_leaves_the_others_alone():
    case, before, junk, _ = situation("several rows")
    before, junk = before[:16], list(islice(endless(2, True), 8))  # whole frames: the rows go on with the same Steps
    state, straight, never = case.ring_state(), case.ring_state(), case.ring_state()
    for one in (state, straight, never):
        run(decoder(case), one, before)
    mark = state.mark()
    run(decoder(case, seed=99), state, junk)
    run(decoder(case, seed=99), straight, junk)
    state.rewind(mark, rows=[1])
    for ring, moved, still in zip(state.rings.values(), straight.rings.values(), never.rings.values()):
        for b, reference in ((0, moved), (1, still), (2, moved)):
            assert torch.equal(ring.k[:, b], reference.k[:, b])
            assert torch.equal(ring.slots.cell[b], reference.slots.cell[b])
    assert [row.clock for row in state.rows] == [straight.rows[0].clock, never.rows[1].clock, straight.rows[2].clock]
    step = endless(2, True)
    made = run(decoder(case), state, [next(step), next(step)])
    reference = run(decoder(case), never, [next(s) for s in [endless(2, True)] for _ in range(2)])
    again, expected = ({u: c for b, u, c in codes if b == 1} for codes in (made, reference))
    assert again.keys() == expected.keys() and again
    assert all(float((again[u] - expected[u]).abs().max()) < 1e-12 for u in again)


def test_nested_marks():
    case, before, junk, _ = situation("eager, ring wrapped")
    state = case.ring_state()
    run(decoder(case), state, before)
    outer, kept = state.mark(), tensors(state)
    run(decoder(case, 5), state, junk[:3])
    inner, inside = state.mark(), tensors(state)
    run(decoder(case, 6), state, junk)
    state.rewind(inner)
    assert same_bits(tensors(state), inside)
    state.rewind(outer)
    assert same_bits(tensors(state), kept)
    with pytest.raises(ValueError, match="released"):
        state.rewind(inner)


def test_a_chain_of_marks_keeps_what_its_oldest_needs_and_no_more():
    """Each mark is released after the next is made, as by guesses several frames ahead."""
    case, before, _, _ = situation("several rows")
    state, straight, steps = case.ring_state(), case.ring_state(), list(islice(endless(2, True), 80))
    for one in (state, straight):
        run(decoder(case), one, steps[: len(before)])
    oldest, kept, lengths = state.mark(), tensors(state), []
    for step in steps[len(before) :]:
        newer, now = state.mark(), tensors(state)
        state.release(oldest)
        run(decoder(case, seed=99), state, [step])
        oldest, kept = newer, now
        lengths.append(max(map(len, state.journal)))
    assert max(lengths) <= 2 * len(state.rings) and len(lengths) > 40
    state.rewind(oldest)
    assert same_bits(tensors(state), kept)
    state.release(oldest)
    assert state.journal == [[] for _ in state.rows]


def test_releasing_an_older_mark_leaves_a_newer_one_whole():
    case, before, junk, _ = situation("eager, ring wrapped")
    state = case.ring_state()
    run(decoder(case), state, before)
    outer = state.mark()
    run(decoder(case, 5), state, junk[:5])
    inner, inside = state.mark(), tensors(state)
    run(decoder(case, 6), state, junk[5:])
    state.release(outer)
    state.rewind(inner)
    assert same_bits(tensors(state), inside)


@pytest.mark.parametrize("rows", [None, [0, 2], [1]])
def test_marks_made_after_a_release_go_back_to_where_they_were_made(rows):
    """A mark is released beside an older one, a second is made and a third in it; rows go back to each, or some do."""
    case, before, _, _ = situation("several rows")
    state, steps = case.ring_state(), list(islice(endless(2, True), 60))
    run(decoder(case), state, steps[: len(before)])
    pick, rest = range(3) if rows is None else rows, iter(steps[len(before) :])

    def junk(count, seed):
        run(decoder(case, seed), state, [next(rest) for _ in range(count)])

    first = state.mark()
    junk(5, 1)
    outer, outside = state.mark(), by_row(state)
    junk(7, 2)
    state.release(first)
    second, inside = state.mark(), by_row(state)
    junk(6, 3)
    third, innermost = state.mark(), by_row(state)
    junk(9, 4)
    for mark, kept in ((third, innermost), (second, inside), (outer, outside)):
        still = by_row(state)
        state.rewind(mark, rows)
        for b, now in enumerate(by_row(state)):
            assert same_bits(now, (kept if b in pick else still)[b]), f"row {b}"
        if mark is second:
            state.release(second)
    state.rewind(outer)
    assert same_bits([t for row in by_row(state) for t in row], [t for row in outside for t in row])
    state.release(outer)
    assert state.marks == [] and state.journal == [[] for _ in state.rows]


def test_fork_and_stack_are_copies():
    case, before, junk, after = situation("several rows")
    state = case.ring_state()
    run(decoder(case), state, before)
    kept = tensors(state)
    again = RingState.stack([state.fork([0]), state.fork([1, 2])])
    assert same_bits(tensors(again), kept)
    run(decoder(case, 99), again, junk)
    assert same_bits(tensors(state), kept)


def test_extras_are_rewound_as_a_whole_tree():
    state = endless_frames(False).ring_state()
    state.rows[0].extras["tokenizer"] = torch.ones(2)
    mark = state.mark()
    state.rows[0].extras["tokenizer"] = torch.zeros(2)
    state.rows[0].extras["memory"] = 1
    state.rewind(mark)
    assert torch.equal(state.rows[0].extras["tokenizer"], torch.ones(2)) and "memory" not in state.rows[0].extras


def test_rewind_of_a_prefill_that_wrapped_the_ring():
    case = BY_NAME["endless, window 2, sinks 1, fused, 1 rows"]
    steps = list(islice(endless(2, True), 30))
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, steps[:16])
    run(decoder(case), state, steps[:16])
    mark = state.mark()
    run(decoder(case, 4), state, steps[16:])
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight))


# twins: each of these must be noticed


def broken(name, monkeypatch_state):
    case, before, junk, after = situation(name)
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, before)
    run(decoder(case), state, before)
    mark = state.mark()
    run(decoder(case, seed=99), state, junk)
    monkeypatch_state(state, mark)
    a, b = run(decoder(case), state, after), run(decoder(case), straight, after)
    return max((float((x[2] - y[2]).abs().max()) for x, y in zip(a, b)), default=9.0) if len(a) == len(b) else 9.0


def test_twin_without_a_journal_fails():
    def rewind(state, mark):
        state.journal = [[] for _ in state.rows]
        state.rewind(mark._replace(lengths=(0,)) if hasattr(mark, "_replace") else forget(mark))

    assert broken("eager, ring wrapped", rewind) > 1e-2


def forget(mark):
    object.__setattr__(mark, "lengths", tuple(0 for _ in mark.lengths))
    return mark


def test_twin_pending_not_restored_fails():
    def rewind(state, mark):
        codes = dict(state.rows[0].codes)
        state.rewind(mark)
        state.rows[0].codes = {unit: torch.zeros_like(code) for unit, code in mark.rows[0].codes.items()} or codes

    assert broken("fused, unit pending", rewind) > 1e-2


def test_twin_x_in_flight_lost_fails():
    def rewind(state, mark):
        state.rewind(mark)
        state.rows[0].x = {}

    assert broken("inside a refinement", rewind) > 1e-3
