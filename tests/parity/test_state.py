"""What a state holds beside keys, what it hides, and what it refuses: carries, frames noised again, marks, traces."""

from dataclasses import replace

import pytest
import torch
from cases import BY_NAME, Case, endless_frames, flow
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors
from test_verbs import drafted, guesses, plain
from test_verbs import tokens as token_after_token
from verb_toys import DrawnFromOutput

from vidar.cache.carries import Carries
from vidar.cache.list import ListState
from vidar.cache.ring import RingState
from vidar.core import layout
from vidar.core.decode import Decoder
from vidar.core.layout import compile_layout
from vidar.core.placement import CyclicPlacement, PeriodicPlacement, RingShape
from vidar.core.relation import Relation, window
from vidar.core.step import Row, Step, by_waves, endless
from vidar.core.trace import Replaced, Stacked, replay
from vidar.objectives.context import CleanConfig, ContextNoiseConfig
from vidar.orders.frame import frame_order
from vidar.types import MEMORY, QUERY, Slots

RECURRENT = "recurrent mixer, fused, 2 rows"


# a mixer with a state of fixed size


def steps_of(case, first, last):
    return list(case.schedule())[first:last]


@pytest.mark.parametrize("rows", [None, [1]])
def test_what_is_carried_goes_back_with_a_rewind(rows):
    case = BY_NAME[RECURRENT]
    state, straight = case.ring_state(), case.ring_state()
    for one in (state, straight):
        run(decoder(case), one, steps_of(case, 0, 4))
    mark = state.mark()
    run(decoder(case, seed=99), state, steps_of(case, 4, 8))
    junk = dict(state.carries.values)
    state.rewind(mark, rows)
    back = range(2) if rows is None else rows
    for key, value in state.carries.values.items():
        for b in range(2):
            assert torch.equal(value[b], (straight.carries.values if b in back else junk)[key][b])
    if rows is None:
        after = steps_of(case, 4, 11)
        assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


def test_twin_a_carry_that_does_not_go_back_fails():
    case = BY_NAME[RECURRENT]
    state, straight = case.ring_state(), case.ring_state()
    for one in (state, straight):
        run(decoder(case), one, steps_of(case, 0, 4))
    mark = state.mark()
    run(decoder(case, seed=99), state, steps_of(case, 4, 8))
    junk = state.carries
    state.rewind(mark)
    state.carries = junk
    after = steps_of(case, 4, 11)
    assert not same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


def test_carries_go_through_forks_and_joins_and_take_constant_memory():
    case = BY_NAME[RECURRENT]
    state = case.ring_state()
    run(decoder(case), state, steps_of(case, 0, 4))
    size = sum(value.nbytes for value in state.carries.values.values())
    run(decoder(case), state, steps_of(case, 4, 8))
    assert size == sum(value.nbytes for value in state.carries.values.values())
    ends = {}
    for name, made in {
        "whole": state.fork([0, 1]),
        "stacked": RingState.stack([state.fork([0]), state.fork([1])]),
    }.items():
        ends[name] = run(decoder(case), made, steps_of(case, 8, 11))
    swapped = case.ring_state()
    swapped.replace([1, 0], state.fork([1, 0]))
    ends["replaced"] = run(decoder(case), swapped, steps_of(case, 8, 11))
    assert same_codes(ends["whole"], ends["stacked"]) and same_codes(ends["whole"], ends["replaced"])


def test_a_row_that_never_carried_has_zeros():
    one = Carries().put("m", 0, torch.ones(1, 3))
    both = Carries.stacked([(one, 1), (Carries(), 2)])
    assert torch.equal(both.get("m", 0), torch.tensor([[1.0] * 3, [0.0] * 3, [0.0] * 3]))
    assert torch.equal(Carries().replaced([1], one, 2).get("m", 0), torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert torch.equal(both.replaced([0], Carries(), None).get("m", 0), torch.zeros(3, 3))


def test_a_functional_state_carries_and_gives_the_same_codes():
    case = BY_NAME[RECURRENT]
    assert largest_difference(case.run(ListState.create(["main"], 2)), case.run_ring()) < TOLERANCE
    state, after = ListState.create(["main"], 2), steps_of(case, 4, 11)
    run(decoder(case), state, steps_of(case, 0, 4))
    mark = state.mark()
    made = run(decoder(case), state, after)
    state.rewind(mark)
    assert same_codes(run(decoder(case), state, after), made)


# a past that is noised again


def noised_again():
    """Every frame is committed noisy, and two frames later once more, clean."""
    order, grid = frame_order(1, 2, 10, 4)
    main = replace(
        order.relations["main"], capacity=7 * 2
    )  # what is committed again reads its own window, not the last
    order = replace(order, relations={"main": main}, needs=lambda u, v: (v < u) & (v >= u - 3))
    noisy = flow(grid, context=ContextNoiseConfig(most=0.6, level=0.5))
    return Case("noised again", order, [grid], noisy, None, 0), flow(grid, context=CleanConfig())


def again(case, clean, state, model):
    """Codes of all frames, whose older ones become clean as the stream goes on."""
    made = {}
    for frame in range(7):
        rows = [Step((Row(frame, QUERY, 0),)), Step((Row(frame, QUERY, 1),)), Step((Row(frame, MEMORY, None),))]
        for step in rows:
            made.update({(b, u): c for b, u, c in one(case, case.objective, model).step(step, state)})
        if frame >= 2:
            one(case, clean, model).step(Step((Row(frame - 2, MEMORY, None),)), state)
    return made, None


def one(case, objective, model):
    return Decoder(model, case.order, case.grids, objective, case.rngs, cond=case.cond)


@torch.no_grad()
def both_ways(hide=True):
    from toys import OracleModel

    case, clean = noised_again()
    ring = again(case, clean, case.ring_state(), case.model)
    oracle = again(case, clean, case.oracle(), OracleModel(case.model, case.order, case.cond))
    never = again(case, case.objective, case.ring_state(), case.model)
    return ring[0], oracle[0], never[0]


def far(a, b):
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def test_a_frame_that_is_committed_again_is_read_once_and_as_it_is_now():
    ring, oracle, never = both_ways()
    assert far(ring, oracle) < TOLERANCE and far(ring, never) > 1e-3


def test_twin_both_copies_of_a_frame_fail(monkeypatch):
    monkeypatch.setattr(layout, "_hidden", lambda relation, ring, fresh: ring)
    ring, oracle, _ = both_ways()
    assert far(ring, oracle) > 1e-3


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_committed_frame_that_is_refined_again_is_read_as_committed_unless_frames_in_flight_are_seen(in_flight):
    """Frames 0 and 1 are in the ring, 1 and 2 are in flight: 2 reads 0, itself, and one of the two copies of 1."""
    order, grid = frame_order(1, 1, None, 2, in_flight=in_flight)
    state = RingState.create(order, [grid], {"main": RingShape(1, 1, 1)})
    for unit in (0, 1):
        state.begin(compile_layout([Row(unit, MEMORY, None)], order, [grid]), torch.zeros(1))
        state.end(Step(()))
    seen = compile_layout([Row(1, QUERY, 0), Row(2, QUERY, 0)], order, [grid], held=state.held()).views["main"]
    assert seen.k.site.tolist() == [[0, 1, 1, 2]]
    assert seen.dense[0, -1].tolist() == ([True, True, False, True] if in_flight == 1 else [True, False, True, True])


def test_what_is_shown_but_never_committed_is_forgotten():
    """`Row(u, QUERY, None)` shows a known code and keeps nothing."""
    case = endless_frames(False, past=3)
    state, player = case.ring_state(), decoder(case)
    for _ in range(30):
        for row in ((0, QUERY, 0), (0, QUERY, 1), (0, QUERY, None)):
            player.step(Step((Row(*row),), int(row[2] is None)), state)
    assert len(state.rows[0].codes) <= 9 and len(state.rows[0].done) <= 7


# units that are taken back


def test_what_is_taken_back_in_flight_begins_anew():
    """And not where its first refinement left it."""
    case = endless_frames(False, past=3)
    state, straight = case.ring_state(), case.ring_state()
    run(decoder(case), straight, steps_of(case, 0, 6))
    run(decoder(case), state, steps_of(case, 0, 7))
    state.discard(0, [2])
    after = steps_of(case, 6, 12)
    assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


def test_what_is_taken_back_leaves_no_output_to_go_on_from():
    case = token_after_token(1)
    state, player = case.ring_state(), decoder(case)
    run(player, state, steps_of(case, 0, 4))
    assert state.rows[0].outs.keys() == {3}
    state.discard(0, [3])
    with pytest.raises(KeyError):
        run(player, state, steps_of(case, 4, 5))


def test_what_counted_and_was_taken_back_may_be_a_draft_again():
    """A draft that counts at once would lose what it is verified with."""
    case = token_after_token(1)
    state = case.ring_state()
    state.rows[0].draft(1, torch.tensor([0]))
    state.rows[0].accept(1)
    state.discard(0, [1])
    assert drafted(case, guesses(case), state)[0] == plain(case)


class DrawnFromBoth(DrawnFromOutput):
    """The token before is looked at too."""

    def start(self, unit, past, rng):
        drawn = super().start(unit, past, rng)
        return (drawn + past.codes[unit - 1]) % len(self.book) if unit else drawn


def test_a_code_that_drafts_are_verified_with_is_kept():
    """Though the draft after it is committed."""
    case = token_after_token(2)
    case = case.but(objective=DrawnFromBoth(case.objective.book))
    assert plain(case) != plain(token_after_token(2))
    found, calls = drafted(case, guesses(case), case.ring_state())
    assert found == plain(case) and calls < 20


# one objective per row: guidance by a row that knows less of the past (history guidance)


def history_guidance():
    case = endless_frames(True, past=3, batch=2)
    sharp, vague = (flow(case.grids[0], context=ContextNoiseConfig(most=0.9, level=level)) for level in (0.0, 0.8))

    def combine(out):
        return (out[1:] + 2.0 * (out[:1] - out[1:])).expand(2, -1, -1)

    return case.but(objective=[sharp, vague], combine=combine, videos=[0, 0], model=case.model), sharp, vague


def test_rows_with_objectives_of_their_own_equal_recomputation():
    case, sharp, vague = history_guidance()
    ring, oracle = case.run_ring(), case.run_oracle()
    assert largest_difference(ring, oracle) < TOLERANCE
    levels = {float(inputs[b, 0, -1]) for _, inputs, _ in ring[1].calls[2::2] for b in (0, 1)}
    assert {0.0, 0.800000011920929, 0.8} & levels == {0.0, 0.8}
    for other in (sharp, vague):
        assert largest_difference(case.but(objective=other).run_ring(), oracle) > 1e-3
    assert largest_difference(case.but(objective=[vague, sharp]).run_ring(), oracle) > 1e-3


# marks


def marked():
    case = endless_frames(True, past=3, batch=2)
    state, player, steps = case.ring_state(), decoder(case), endless(2, True)

    def frames(count):
        run(player, state, [next(steps) for _ in range(2 * count)])

    frames(4)
    return state, frames


def test_a_row_that_went_behind_a_mark_does_not_come_back_to_it():
    state, frames = marked()
    old = state.mark()
    frames(1)
    new = state.mark()
    frames(1)
    state.rewind(old, rows=[0])
    frames(2)
    with pytest.raises(ValueError, match="a rewind of row 0 went past this mark"):
        state.rewind(new)
    state.rewind(new, rows=[1])
    state.rewind(old)
    with pytest.raises(ValueError, match="this mark was released, or a rewind went past it"):
        state.rewind(new, rows=[1])
    state.release(old)
    assert state.journal == [[], []] and not state.marks


def test_a_mark_that_is_void_for_a_row_keeps_nothing_of_it():
    state, frames = marked()
    old = state.mark()
    frames(1)
    new = state.mark()
    frames(1)
    state.rewind(old, rows=[0])
    frames(2)
    state.release(old)
    assert not state.journal[0] and state.journal[1]
    kept = tensors(state)
    frames(3)
    state.rewind(new, rows=[1])
    assert kept and state.rows[1].clock < state.rows[0].clock
    state.release(new)
    assert state.journal == [[], []] and not state.behind


# placements


def test_a_ring_of_sinks_alone_keeps_nothing_else():
    order, grid = frame_order(1, 2, None, 0, 1)
    case = endless_frames(False, past=3)
    case = case.but(order=order, grids=[grid], objective=flow(grid), schedule=lambda: iter(twelve()), calls=12)
    ring, state = case.run_oracle(), case.ring_state()
    assert largest_difference(case.run(state), ring) < TOLERANCE
    assert state.rings["main"].slots.site.tolist() == [[0, 1]]


def twelve():
    steps = endless(2)
    return [next(steps) for _ in range(12)]


def held(size):
    long = torch.full((1, size), -1)
    return Slots(long, long, long, long, torch.zeros(1, size, 1))


def test_places_of_sites_that_are_kept_for_different_times():
    """Five sites a period: the first two kept for one period, the last two for three, the middle one never."""
    placement = PeriodicPlacement(torch.tensor([1, 1, 0, 3, 3]))
    site = torch.arange(20)[None]
    places = placement(site, torch.ones_like(site, dtype=torch.bool), held(placement.size))[0].tolist()
    assert placement.size == 2 + 6 and placement.cycle == 15
    assert [places[5 * f : 5 * f + 5] for f in range(4)] == [
        [0, 1, -1, 2, 3], [0, 1, -1, 4, 5], [0, 1, -1, 6, 7], [0, 1, -1, 2, 3],
    ]  # fmt: skip
    assert CyclicPlacement(6, 2)(torch.arange(12), None, None).tolist() == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3]
    with pytest.raises(ValueError, match="a placement of 8 sites in a ring of 9"):
        Relation(window(1), capacity=9, placement=placement)


# traces of rows that come from other states


def test_the_trace_of_joined_rows_holds_their_own():
    case = endless_frames(True, past=3)
    first, second = case.ring_state(), case.ring_state()
    steps = [next(s) for s in [endless(2, True)] for _ in range(8)]
    run(decoder(case), first, steps)
    run(decoder(case, seed=5), second, steps)
    both = RingState.stack([first, second])
    assert both.trace == [Stacked((tuple(first.trace), tuple(second.trace)))] and len(first.trace) == 8
    pair = case.but(grids=case.grids * 2)
    run(decoder(pair), both, steps[:4])
    both.replace([0], second.fork([0]))
    assert both.trace[-1] == Replaced((0,), tuple(second.trace)) and len(both.trace) == 6
    again = [case.ring_state(), case.ring_state()]
    for seed, state, trace in zip((None, 5), again, both.trace[0].traces):
        run(decoder(case) if seed is None else decoder(case, seed=seed), state, list(replay(trace, state)))
    other = RingState.stack(again)
    run(decoder(pair), other, list(replay(both.trace[1:5], other)))
    other.replace([0], second.fork([0]))
    assert same_bits(tensors(other), tensors(both))
    for name, trace in {"Stacked": both.trace, "Replaced": both.trace[1:]}.items():
        with pytest.raises(ValueError, match=rf"rows of another state joined here \({name}\)"):
            list(replay(trace, both))


def test_waves_have_no_code_to_commit_twice():
    case = BY_NAME["frame, eager"]
    steps = list(by_waves(case.order, case.objective.passes))
    with pytest.raises(ValueError, match="unit 0 is committed again, but its code is gone: no later unit needs it"):
        case.run(case.ring_state(), schedule=[*steps[:6], steps[2]])
