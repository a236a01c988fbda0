"""P6 over every recipe with an Order: rings hold what is read, whatever the steps; nobody reads dead sites."""

from dataclasses import replace

import pytest
import torch
from recipe_cases import case_of, made, played, subjects
from test_p6 import by_formula, run_with_dead_sites_filled, too_early

SUBJECTS = subjects()
ENDLESS = [name for name, subject in SUBJECTS.items() if subject.endless]
FINITE = [name for name in SUBJECTS if name not in ENDLESS]
TOGETHER = [name for name in ENDLESS if SUBJECTS[name].depth > 1]


def frames_read(case, rule, unit, period):
    """Frames before its own that a unit in flight reads something of, and which units of a frame it reads so."""
    grid = case.grids[0]
    cell = grid.cell(grid.sites(unit)).min()
    earlier = range(unit // period * period)
    seen = [u for u in earlier if rule(cell, grid.cell(grid.sites(u))).any()]
    return len({u // period for u in seen}), {u % period for u in seen}


@pytest.mark.parametrize("name", ENDLESS)
def test_p6_rings_hold_the_window(name):
    """Of the units that later frames read those of the window and, where a frame is several of them, of the frame that
    is made. Where all units are such ones, the ring is full and has no room for more."""
    subject, case, state = SUBJECTS[name], case_of(name), played(name).state
    order, grid, period = case.order, case.grids[0], subject.period
    step = max(period, subject.depth)
    begin = len(case.codes) + step * (order.reach // step + 2)  # of a frame, or of a chunk
    read = {relation: frames_read(case, rules.sees, begin, period) for relation, rules in order.relations.items()}
    assert max(frames for frames, _ in read.values()) == subject.model.order.window
    assert set(state.rings) == {relation for relation, rules in order.relations.items() if rules.capacity}
    for relation, ring in state.rings.items():
        frames, again = read[relation]
        again = again or set(range(period))  # only its own frame reads it
        held = [int(unit) % period in again for unit in ring.slots.unit[ring.slots.cell >= 0]]
        assert sum(held) == (frames + (len(again) > 1)) * sum(len(grid.sites(unit)) for unit in again)
        if len(again) == period:
            assert len(held) == ring.k.shape[2] == order.relations[relation].capacity


@pytest.mark.parametrize("name", FINITE)
def test_p6_rings_hold_the_clip(name):
    for ring in played(name).state.rings.values():
        assert int((ring.slots.cell >= 0).sum()) == ring.k.shape[2] == case_of(name).grids[0].num_sites


@pytest.mark.parametrize("name", FINITE)
def test_p6_dead_sites_are_read_by_nobody(name):
    """Twin: dead one wave too early."""
    case, plain = case_of(name), played(name).codes
    codes, filled = run_with_dead_sites_filled(case, by_formula)
    assert filled and all(torch.equal(codes[key], plain[key]) for key in plain)
    codes, _ = run_with_dead_sites_filled(case, too_early)
    assert any(not torch.equal(codes[key], plain[key]) for key in plain)


@pytest.mark.parametrize("name", TOGETHER)
def test_p6_bytes_do_not_depend_on_the_steps(name):
    """One cache for all of them: after one step as after three."""
    subject, sizes = SUBJECTS[name], set()
    for steps in (1, 3):
        case = made(replace(subject, model=subject.model.with_steps(steps)), frames=9)
        state = case.ring_state()
        case.run(state)
        assert all(int((ring.slots.cell >= 0).sum()) == ring.k.shape[2] for ring in state.rings.values())
        sizes.add(sum(part.nbytes for ring in state.rings.values() for part in (ring.k, ring.v)))
    assert len(sizes) == 1
