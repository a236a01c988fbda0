"""P6: what is alive is what the formula says; dead sites are read by nobody."""

import pytest
import torch
from cases import BY_NAME, CASES, endless_frames

from vidar.core.decode import Decoder
from vidar.types import PAD


def run_with_dead_sites_filled(case, alive):
    """Decode; after every call overwrite every ring slot that `alive(order, unit, clock)` calls dead with 1e30."""
    state = case.ring_state()
    player = Decoder(case.model, case.order, case.grids, case.objective, case.rngs, case.given, case.cond, case.combine)
    codes, filled = {}, 0
    for step in case.schedule():
        with torch.no_grad():
            codes.update({(b, u): c for b, u, c in player.step(step, state)})
        for ring in state.rings.values():
            for b, row in enumerate(state.rows):
                for place in range(ring.k.shape[2]):
                    unit = int(ring.slots.unit[b, place])
                    if unit == PAD or not alive(case.order, unit, row):
                        ring.k[:, b, place] = ring.v[:, b, place] = 1e30
                        filled += 1
    return codes, filled


def by_formula(order, unit, row):
    """A unit is alive until its last reader is done."""
    if order.endless:
        return order.last_reader(unit) >= min(row.clock, max(row.committed, default=-1) + 1)
    readers = torch.nonzero(order.sees[:, unit])[:, 0].tolist()
    return any(reader not in row.committed for reader in readers if reader != unit)


def too_early(order, unit, row):
    """One wave too early."""
    if order.endless:
        return order.last_reader(unit) > row.clock
    last = order.last_reader(unit)
    readers = [r for r in torch.nonzero(order.sees[:, unit])[:, 0].tolist() if int(order.wave_of[r]) < last]
    return any(reader not in row.committed for reader in readers)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_dead_sites_are_read_by_nobody(case):
    plain, _ = case.run_ring()
    codes, filled = run_with_dead_sites_filled(case, by_formula)
    assert codes.keys() == plain.keys() and all(torch.equal(codes[key], plain[key]) for key in plain)
    assert filled or not case.order.relations


@pytest.mark.parametrize("name", ["frame, eager", "endless, window 3, sinks 0, eager, 1 rows", "random DAG", "plan"])
def test_twin_one_wave_too_early_fails(name):
    case = BY_NAME[name]
    plain, _ = case.run_ring()
    codes, _ = run_with_dead_sites_filled(case, too_early)
    assert any(not torch.equal(codes[key], plain[key]) for key in plain)


def test_codes_and_outputs_are_dropped_when_nobody_needs_them():
    for name in ("endless, window 3, sinks 0, fused, 1 rows", "frame x scale with memory unit", "ring"):
        case = BY_NAME[name]
        state = case.ring_state()
        case.run(state)
        assert all(len(row.codes) <= 4 and len(row.outs) <= 4 and not row.x for row in state.rows), name


def test_live_sites_of_an_endless_stream():
    for past, sinks in ((3, 0), (2, 1)):
        state = (case := endless_frames(False, past, sinks)).ring_state()
        case.run(state)
        ring = state.rings["main"]
        assert int((ring.slots.cell >= 0).sum()) == (past + sinks) * 2 == ring.k.shape[2]
