"""What is decided at run time: drafts, sets in the order they were filled, evictions by head, new attempts."""

from dataclasses import replace

import pytest
import torch
from cases import BOOK, Case, endless_frames, flow
from test_p1b import TOLERANCE, largest_difference
from toys import OracleModel, OracleState
from verb_toys import DrawnFromOutput, HeadwiseModel, Masked

from vidar.cache.list import ListState
from vidar.core import layout
from vidar.core.decode import Decoder
from vidar.core.layout import compile_layout
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.core.state import RowState
from vidar.core.step import Row, Step, by_waves, endless
from vidar.core.trace import Evicted, replay
from vidar.objectives.steppers import RenoiseConfig
from vidar.orders.frame import frame_order
from vidar.orders.token import token_order
from vidar.types import MEMORY, QUERY


def decoder_of(case, **changes):
    fields = {"cond": case.cond, "rngs": case.rngs, **changes}
    return Decoder(case.model, case.order, case.grids, case.objective, **fields)


def everywhere(q, k):
    return (q >= 0) & (k >= 0)


# draft and verify: several tokens committed in one call, those that the model would not have drawn taken back


def tokens(rows=3):
    order, grid = token_order(1, 4, 5)
    order = replace(order, needs=lambda u, v: v == u - 1)
    objective = DrawnFromOutput(BOOK)
    return Case("drafts", order, [grid] * rows, objective, lambda: by_waves(order, objective.passes), 20)


@torch.no_grad()
def plain(case):
    """Token after token: codes by row."""
    found = [{} for _ in case.grids]
    for b, unit, code in decoder_of(case)(case.schedule(), case.ring_state()):
        found[b][unit] = int(code)
    return [[codes[u] for u in range(20)] for codes in found]


@torch.no_grad()
def drafted(case, guess, state, ahead=3, discard=None):
    """The same by drafts: guess(row, unit) -> label. Returns codes by row and the number of calls."""
    decoder, count = decoder_of(case), case.order.num_units
    found, calls = [[] for _ in case.grids], 0
    discard = discard or (lambda row, units: state.discard(row, units))
    while any(row.clock < count for row in state.rows):
        for b, row in enumerate(state.rows):
            for unit in range(row.clock + 1, min(row.clock + 1 + ahead, count)):
                row.draft(unit, torch.tensor([guess(b, unit)]))
        emitted = decoder.step(Step(tuple(Row(u, MEMORY, None) for u in range(ahead + 1))), state)
        calls += 1
        for b, row in enumerate(state.rows):
            found[b] += [int(code) for row_of, _, code in emitted if row_of == b]
            first, accepted = row.clock, 1
            for unit in range(first + 1, min(first + 1 + ahead, count)):
                true = case.objective.start(unit, decoder._past(unit, row), case.rngs[b])
                if not torch.equal(true, row.codes[unit]):
                    break
                row.accept(unit)
                found[b].append(int(true))
                accepted += 1
            discard(b, range(first + accepted, min(first + 1 + ahead, count)))
            state.advance(b, accepted)
    return found, calls


def guesses(case, right=0.6):
    """The model's own labels, some of them changed."""
    labels = torch.tensor(plain(case))
    wrong = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) > right
    labels = torch.where(wrong, (labels + 1) % len(BOOK), labels)
    return lambda b, unit: int(labels[b, unit])


@pytest.mark.parametrize("kind", ["ring", "list"])
def test_drafts_give_the_tokens_of_plain_decoding_in_fewer_calls(kind):
    case = tokens()
    state = case.ring_state() if kind == "ring" else ListState.create(["main"], 3)
    if kind == "list":
        state.advance = lambda row, count: setattr(state.rows[row], "clock", state.rows[row].clock + count)
    found, calls = drafted(case, guesses(case), state)
    assert found == plain(case) and calls < 14
    assert all(not row.codes.keys() - row.committed for row in state.rows)


def test_all_drafts_right_or_all_wrong():
    case = tokens(1)
    assert drafted(case, guesses(case, 1.0), case.ring_state())[1] == 5
    assert drafted(case, guesses(case, 0.0), case.ring_state()) == (plain(case), 20)


def test_twin_keys_of_rejected_drafts_beside_the_new_ones_fail(monkeypatch):
    case = tokens()

    def forgets_keys(row, units):
        state.rows[row].discard(units)

    state = case.ring_state()
    assert drafted(case, guesses(case), state, discard=forgets_keys)[0] == plain(case), "a new key hides the old one"
    monkeypatch.setattr(layout, "_hidden", lambda relation, ring, fresh: ring)
    state = case.ring_state()
    assert drafted(case, guesses(case), state, discard=forgets_keys)[0] != plain(case)


def test_twin_drafts_that_count_at_once_lose_what_they_are_verified_with():
    case, state = tokens(1), None
    state = case.ring_state()
    state.rows[0].draft = lambda unit, code: (state.rows[0].codes.update({unit: code}), state.rows[0].done.add(unit))
    with pytest.raises(KeyError):
        drafted(case, guesses(case), state)


def test_what_was_drafted_is_replayed_from_the_trace():
    """Units, discards and clocks of the rows come from the trace; the drafts themselves are given again."""
    case = tokens(2)
    state = case.ring_state()
    found, calls = drafted(case, guesses(case), state)
    oracle = OracleState([RowState() for _ in case.grids])
    for unit in range(20):
        oracle.give(unit, torch.tensor([[codes[unit]] for codes in found]))
    for row in oracle.rows:
        row.done.clear()
    guess, outs = guesses(case), []

    class Watching(OracleModel):
        def __call__(self, inputs, layout, cond, state):
            outs.append(super().__call__(inputs, layout, cond, state))
            return outs[-1]

    drafts = [{u: torch.tensor([guess(b, u)]) for u in range(1, 20)} for b in range(2)]
    player = replace(decoder_of(case), model=Watching(case.model, case.order, case.cond))
    ring_outs = []
    again = case.ring_state()
    recorder = replace(decoder_of(case), model=lambda *a: ring_outs.append(case.model(*a)) or ring_outs[-1])
    with torch.no_grad():
        for one, runner in ((oracle, player), (again, recorder)):
            for step in replay(state.trace, one):
                for b, row in enumerate(one.rows):
                    first = row.clock
                    row.codes.update({u: d for u, d in drafts[b].items() if first < u < first + 4})
                    row.codes[first] = torch.tensor([found[b][first]]) if first < 20 else row.codes.get(first)
                    row.codes = {u: c for u, c in row.codes.items() if c is not None}
                runner.step(step, one)
    assert len(outs) == calls == len(ring_outs)
    assert max(float((a - b).abs().max()) for a, b in zip(outs, ring_outs)) < TOLERANCE


# streaming sets: who was filled before whom is decided at run time


def masked():
    order, grid = token_order(1, 2, 5)
    relation = Relation(everywhere, memory=everywhere)
    objective = Masked(BOOK)
    case = Case("streaming sets", Order({"main": relation}, 10, needs=lambda u, v: u < v), [grid], objective, None, 0)
    return case


def sets(state, width=4, fewest=0.45):
    """Steps of a window of `width` masks: those that are surest are committed, in the order of how sure they are.

    A committed token reads those filled before it; a mask reads filled tokens on its left.
    """
    filled, flight = [], list(range(width))
    chosen = []
    left = torch.ones(10, 10, dtype=torch.bool).tril(-1)
    while flight or chosen:
        rank = {unit: n for n, unit in enumerate(filled)}
        before = torch.zeros(10, 10, dtype=torch.bool)
        for q, n in rank.items():
            before[q, filled[: n + 1]] = True
        keep = torch.stack([left, before])[None]
        commits = tuple(Row(unit, MEMORY, None) for unit in chosen)
        yield Step(commits + tuple(Row(unit, QUERY, 0) for unit in flight), 0, keep)
        row = state.rows[0]
        sure = {unit: float(row.x[unit].softmax(-1).max()) for unit in flight}
        chosen = sorted((u for u in flight if sure[u] >= fewest), key=lambda u: -sure[u])
        chosen = chosen or sorted(flight, key=lambda u: -sure[u])[:1]
        filled += chosen
        flight = [u for u in flight if u not in chosen]
        flight += list(range(len(filled) + len(flight), min(10, len(filled) + width)))


def run_sets():
    case = masked()
    state = case.ring_state()
    return case, case.run(state, schedule=sets(state)), state.trace


def test_sets_filled_at_run_time_equal_recomputation_from_their_trace():
    case, made, trace = run_sets()
    committed = [[row.unit for row in step.rows if row.role == MEMORY] for step in trace]
    order = [unit for units in committed for unit in units]
    assert sorted(order) == list(range(10)) and order != sorted(order), "filled from left to right"
    assert max(map(len, committed)) > 1, "no set of several"
    assert largest_difference(made, case.run_oracle(schedule=trace)) < TOLERANCE


def test_a_training_forward_in_the_order_they_were_filled_equals_the_commits():
    case, (codes, recorder), trace = run_sets()
    order = [row.unit for step in trace for row in step.rows if row.role == MEMORY]
    table = torch.zeros(10, 10, dtype=torch.bool)
    for n, unit in enumerate(order):
        table[unit, order[: n + 1]] = True
    rows = [Row(unit, MEMORY, None) for unit in order]
    whole = compile_layout(rows, case.order, case.grids).with_keep(table[None])
    inputs = torch.cat([case.objective.memory(u, codes[0, u], None, None) for u in order])[None]
    with torch.no_grad():
        out = case.model(inputs, whole, case.cond(whole), None)
    found = {}
    for called, _, outs in recorder.calls:
        for slot, (unit, role) in enumerate(zip(called.slots.unit[0].tolist(), called.slots.role[0].tolist())):
            if role == MEMORY:
                found[unit] = outs[0, slot]
    assert float((out[0] - torch.stack([found[u] for u in order])).abs().max()) < TOLERANCE


@pytest.mark.parametrize("wrong", ["no keep", "the masks' keep for all", "the commits' keep for all"])
def test_twin_sets_with_another_keep_fail(wrong):
    case, made, trace = run_sets()
    keeps = {
        "no keep": lambda keep: None,
        "the masks' keep for all": lambda keep: keep[:, :1].expand(-1, 2, -1, -1),
        "the commits' keep for all": lambda keep: keep[:, 1:].expand(-1, 2, -1, -1),
    }
    other = [replace(step, keep=keeps[wrong](step.keep)) for step in trace]
    assert largest_difference(made, case.run_oracle(schedule=other)) > 1e-3


# rings by head and layer, each with a policy of its own


def headwise(size):
    order, grid = frame_order(1, 2, None, 6)
    objective = flow(grid)
    model = HeadwiseModel(objective.input_width, 3, size)
    case = endless_frames(False, past=6)
    return case.but(order=order, grids=[grid], objective=objective, model=model)


def smallest_keys(state, budget):
    """After each frame every head of every layer keeps the sites with the largest keys."""
    for name, ring in state.rings.items():
        for b in range(len(state.rows)):
            held = torch.nonzero(ring.slots.cell[b] >= 0)[:, 0]
            size = ring.k[0, b, held, 0].norm(dim=1)
            for site in ring.slots.site[b, held[size.argsort()][: max(0, len(held) - budget)]]:
                yield name, b, site[None]


def evicting(state, budget, frames):
    for n, step in zip(range(3 * frames), endless(2)):
        yield step
        if n % 3 == 2:
            for name, b, sites in smallest_keys(state, budget):
                state.evict(name, b, sites)


def run_headwise(budget=4, size=6, frames=9):
    case = headwise(size)
    state = case.ring_state()
    return case, case.run(state, schedule=evicting(state, budget, frames)), state


def test_heads_forget_what_they_choose_and_equal_recomputation():
    case, made, state = run_headwise()
    evictions = [entry for entry in state.trace if isinstance(entry, Evicted)]
    kept = {name: ring.slots.site[0][ring.slots.cell[0] >= 0].tolist() for name, ring in state.rings.items()}
    assert len({tuple(sorted(sites)) for sites in kept.values()}) > 1, "all heads forget alike"
    assert {len(sites) for sites in kept.values()} == {4} and evictions
    oracle = case.oracle()
    again = case.run(oracle, OracleModel(case.model, case.order, case.cond), replay(state.trace, oracle))
    assert largest_difference(made, again) < TOLERANCE


def test_what_heads_forget_takes_no_memory():
    few, many = run_headwise(size=6)[2], headwise(12).ring_state()
    assert all(ring.k.nbytes * 2 == many.rings[name].k.nbytes for name, ring in few.rings.items())


def test_a_full_ring_refuses_before_anything_is_written():
    case = headwise(3)
    with pytest.raises(ValueError, match="2 sites for 1 free places of 3; evict sites first"):
        case.run(case.ring_state(), schedule=evicting(case.ring_state(), 4, 3))


@pytest.mark.parametrize("wrong", ["one eviction less", "the other head forgets"])
def test_twin_other_evictions_fail(wrong):
    case, made, state = run_headwise()
    first = next(n for n, entry in enumerate(state.trace) if isinstance(entry, Evicted))
    names = list(state.rings)
    swap = lambda entry: entry._replace(ring=names[names.index(entry.ring) ^ 1])  # noqa: E731
    if wrong == "one eviction less":
        trace = state.trace[:first] + state.trace[first + 1 :]
    else:
        trace = [swap(entry) if isinstance(entry, Evicted) else entry for entry in state.trace]
    oracle = case.oracle()
    again = case.run(oracle, OracleModel(case.model, case.order, case.cond), replay(trace, oracle))
    assert largest_difference(made, again) > 1e-4


def test_rewinding_over_evictions_restores_places_and_keys():
    case = headwise(6)
    state, straight = case.ring_state(), case.ring_state()
    for one in (state, straight):
        case.run(one, schedule=evicting(one, 4, 4))
    mark = state.mark()
    case.run(state, schedule=evicting(state, 2, 3))
    state.rewind(mark)
    for ring, other in zip(state.rings.values(), straight.rings.values()):
        assert torch.equal(ring.slots.cell, other.slots.cell) and torch.equal(ring.slots.site, other.slots.site)
        alive = ring.slots.cell[0] >= 0
        assert torch.equal(ring.k[:, :, alive], other.k[:, :, alive])
    a, b = (case.run(one, schedule=evicting(one, 4, 3))[0] for one in (state, straight))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# a new attempt draws anew


def test_after_a_rewind_a_new_attempt_draws_other_tokens_and_the_trace_says_so():
    case = tokens(2)
    state, steps = case.ring_state(), list(case.schedule())
    with torch.no_grad():
        for step in steps[:4]:
            decoder_of(case).step(step, state)
        mark = state.mark()

        def drawn(one, which):
            return [int(code) for s in which for _, _, code in decoder_of(case).step(s, one)]

        first = drawn(state, steps[4:10])
        state.rewind(mark)
        assert drawn(state, steps[4:10]) == first, "the same attempt drew something else"
        tries = []
        for _ in range(3):
            state.rewind(mark)
            state.attempt(1)
            tries.append(drawn(state, steps[4:10]))
        rows = [[labels[0::2] for labels in (first, *tries)], [labels[1::2] for labels in (first, *tries)]]
        assert len(set(map(tuple, rows[0]))) == 1 and len(set(map(tuple, rows[1]))) >= 3
        fresh = case.ring_state()
        assert drawn(fresh, replay(state.trace, fresh))[8:] == tries[-1]
    assert state.rows[1].attempt == 3 and state.rows[0].attempt == 0
    state.attempt(1, 1)
    state.attempt(1)
    assert state.rows[1].attempt == 4, "an attempt that was made before is made again"


def test_an_attempt_draws_all_noise_anew():
    """Where a frame begins, what a call adds and what later frames see: as by the draws of that attempt alone."""
    case = endless_frames(True, past=3, batch=2)
    case = case.but(objective=flow(case.grids[0], stepper=RenoiseConfig()))
    state, numbers = case.ring_state(), (1, 2)
    for row, number in enumerate(numbers):
        state.attempt(row, number)
    tried, first = case.run(state)[0], case.run_ring()[0]
    drawn = case.run_ring(rngs=[replace(rng, attempt=n) for rng, n in zip(case.rngs, numbers)])[0]
    assert tried.keys() == drawn.keys() and all(torch.equal(tried[key], drawn[key]) for key in tried)
    assert not any(torch.equal(tried[key], first[key]) for key in tried)
