"""Random systems: rings, lists and recomputation agree, and going back restores every bit."""

from dataclasses import replace
from random import Random

import pytest
import torch
from systems import draw
from test_p1b import TOLERANCE, largest_difference
from test_p4 import by_row, decoder, run, same_bits, same_codes
from toys import OracleModel, OracleState

from vidar.cache.list import ListState
from vidar.cache.ring import RingState
from vidar.core.state import RowState
from vidar.rng import Rng

FEW, MANY = range(40), range(40, 400)


def check(seed):
    system = draw(seed)
    case, told, random = system.case, f"systems.draw({seed}): {system.about}", Random(seed)
    cut, rows = random.randrange(len(system.steps)), range(len(case.grids))
    before, after = system.steps[:cut], system.steps[cut:]
    try:
        ring, copies = system.ready(case.ring_state(traced=False)), []

        def steps():
            yield from before
            copies.append(copied(system, ring, random))
            yield from after

        whole = case.run(ring, schedule=steps())
        oracle = system.ready(OracleState([RowState() for _ in rows]))
        recomputed = case.run(oracle, OracleModel(case.model, case.order, case.cond))
        listed = case.run(system.ready(ListState.create(list(case.order.relations), len(rows))))
        assert whole[0], "nothing was made"
        assert largest_difference(whole, recomputed) < TOLERANCE, "rings against recomputation"
        assert largest_difference(listed, recomputed) < TOLERANCE, "lists against recomputation"
        player = decoder(case)
        taken_back(player, copies[0], after, random)
        codes = [(*key, code) for key, code in whole[0].items()]
        made = run(player, copies[0], after)
        assert same_codes(codes[len(codes) - len(made) :], made), f"going on from step {cut}"
    except Exception as error:
        raise AssertionError(f"{error}\n{told}") from error


def copied(system, ring, random):
    """All rows of a state: forked together, one by one and stacked, or written over those of a fresh one."""
    rows, way = range(len(ring.rows)), random.choice(["fork", "stack", "replace"])
    if way == "stack":
        return RingState.stack([ring.fork([b]) for b in rows])
    if way == "fork":
        return ring.fork(rows)
    fresh = system.ready(system.case.ring_state(traced=False))
    fresh.replace(rows, ring.fork(rows))
    return fresh


def taken_back(player, state, steps, random):
    """Junk, which some rows take back before all do, leaves no trace."""
    kept, mark, rows = by_row(state), state.mark(), range(len(player.rngs))
    run(replace(player, rngs=[Rng(99, b) for b in rows]), state, steps[: random.randint(1, 6)])
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
        assert same_bits(now, kept[b]), f"row {b} taken back"
    state.release(mark)
    assert state.journal == [[] for _ in rows], "the journal is not empty"


@pytest.mark.parametrize("seed", FEW)
def test_a_random_system(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", MANY[::20])
def test_many_random_systems(first):
    for seed in range(first, first + 20):
        check(seed)
