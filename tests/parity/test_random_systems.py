"""Random systems: rings, lists and recomputation agree, and going back restores every bit."""

from random import Random

import pytest
import torch
from systems import draw
from test_p1b import TOLERANCE, largest_difference
from test_p4 import by_row, decoder, run, same_bits, same_codes
from toys import OracleModel, OracleState

from vidar.cache.list import ListState
from vidar.cache.ring import RingState
from vidar.core.decode import RowState

FEW, MANY = range(40), range(40, 400)


def check(seed):
    system = draw(seed)
    case, told = system.case, f"systems.draw({seed}): {system.about}"
    try:
        ring = case.run(system.ready(RingState.create(case.order, case.grids, case.model.ring_shapes(), torch.float64)))
        oracle = system.ready(OracleState([RowState() for _ in case.grids]))
        recomputed = case.run(oracle, OracleModel(case.model, case.order, case.cond))
        listed = case.run(system.ready(ListState.create(list(case.order.relations), len(case.grids))))
        assert ring[0], "nothing was made"
        assert largest_difference(ring, recomputed) < TOLERANCE, "rings against recomputation"
        assert largest_difference(listed, recomputed) < TOLERANCE, "lists against recomputation"
        taken_back(system, ring[0], Random(seed))
    except Exception as error:
        raise AssertionError(f"{error}\n{told}") from error


def taken_back(system, codes, random):
    """Junk in the middle, which some rows take back before all do, leaves no trace in what comes after."""
    case, steps, rows = system.case, system.steps, range(len(system.clocks))
    state, cut = system.ready(case.ring_state(traced=False)), random.randrange(len(steps))
    made = run(decoder(case), state, steps[:cut])
    if random.random() < 0.3:
        state = RingState.stack([state.fork([b]) for b in rows])
    kept, mark = by_row(state), state.mark()
    run(decoder(case, seed=99), state, steps[cut : cut + random.randint(1, 8)])
    for name, ring in state.rings.items():
        for b in rows:
            held = ring.slots.site[b][ring.slots.cell[b] >= 0].tolist()
            state.evict(name, b, torch.tensor(random.sample(held, len(held) // 2), dtype=torch.long))
    junk, chosen = by_row(state), [b for b in rows if random.random() < 0.5]
    state.rewind(mark, rows=chosen)
    for b, now in enumerate(by_row(state)):
        assert same_bits(now, (kept if b in chosen else junk)[b]), f"row {b}, of which {chosen} were taken back"
    state.rewind(mark)
    for b, now in enumerate(by_row(state)):
        assert same_bits(now, kept[b]), f"row {b} taken back to step {cut}"
    state.release(mark)
    assert state.journal == [[] for _ in rows], "the journal is not empty"
    made += run(decoder(case), state, steps[cut:])
    assert same_codes([(*key, code) for key, code in codes.items()], made), f"going on from step {cut}"


@pytest.mark.parametrize("seed", FEW)
def test_a_random_system(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", MANY[::20])
def test_many_random_systems(first):
    for seed in range(first, first + 20):
        check(seed)
