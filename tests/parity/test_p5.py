"""P5: perturb one unit; no bit moves in a unit that does not depend on it, and every dependent moves."""

import pytest
import torch
from cases import BY_NAME, CASES, CHANNELS
from test_p1b import largest_difference
from toys import ToyModel

from vidar.rng import Rng
from vidar.types import MEMORY


class OneUnitOtherwise:
    """An Rng whose draws for one unit come from another seed."""

    def __init__(self, inner, unit):
        self.inner, self.unit, self.other = inner, unit, Rng(inner.seed + 1000, inner.video)

    def __getattr__(self, name):
        def draw(purpose, unit=0, step=0, shape=()):
            return getattr(self.other if unit == self.unit else self.inner, name)(purpose, unit, step, shape)

        return draw


def dependents(case, source, by_action=False, calls=None):
    """Units whose code depends on one unit, or one of several: a taint walked through the calls of the schedule.

    Inside a call it spreads along what slots read (closure, as there are several layers); between calls it stays in
    what is in flight, in codes, in outputs and in written keys. New content takes it from the codes that it needs.
    calls: of a run that was made before.
    """
    sources = source if isinstance(source, set) else {source}
    code, keys, outs, begun = set(), set(), set(), set()
    order = case.order
    for layout in [c[0] for c in calls or case.run_ring()[1].calls]:
        slots = layout.slots
        steps = layout.row_step[layout.row].tolist()
        rows = dict.fromkeys(zip(slots.unit[0].tolist(), slots.role[0].tolist(), steps))
        rows = [row for row in rows if row[0] >= 0]
        for unit, _, _ in rows:
            if unit not in begun and unit not in case.codes:
                needed = {v for v in code | outs if order.need(unit, v)}
                code |= {unit} if needed or (unit in sources and not by_action) else set()
            begun.add(unit)
        hidden = {row for row in rows if row[0] in code or (by_action and row[0] in sources)}
        reads = readers(layout)
        while True:
            more = {row for row in rows if any(k in hidden or (k[1] == "ring" and k[0] in keys) for k in reads[row])}
            if more <= hidden:
                break
            hidden |= more
        for unit, role, step in hidden:
            code |= {unit} if step >= 0 else set()
            keys |= {unit} if role == MEMORY else set()
            outs |= {unit} if role == MEMORY else set()
    return code


def readers(layout):
    """(unit, role, step) -> what it reads: rows of the call, or (unit, "ring")."""
    size = layout.num_slots
    step = layout.row_step[layout.row].tolist()
    fresh = list(zip(layout.slots.unit[0].tolist(), layout.slots.role[0].tolist(), step))
    table = {row: set() for row in fresh}
    rows, reader = numbered(fresh)
    for view in layout.views.values():
        keys, key = numbered([(unit, "ring") for unit in view.k.unit[0, :-size].tolist()] + fresh)
        q, k = torch.nonzero(view.dense[0], as_tuple=True)
        for pair in (reader[q] * len(keys) + key[k]).unique().tolist():
            table[rows[pair // len(keys)]].add(keys[pair % len(keys)])
    return table


def numbered(names):
    """Names without repetition, and the number of each."""
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return list(number), torch.tensor([number[name] for name in names])


def moved(a, b, codes):
    return {u for b_row, u in codes if not torch.equal(a[b_row, u], b[b_row, u])}


NOISY = [c for c in CASES if "text" not in c.name]


@pytest.mark.parametrize("case", NOISY, ids=lambda c: c.name)
def test_noise_of_one_unit_moves_its_dependents_only(case):
    plain, recorder = case.run_ring()
    units = sorted({u for _, u in plain})
    for source in [u for u in units if u not in case.given][:: max(1, len(units) // 6)]:
        rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
        changed = moved(plain, case.run_ring(rngs=rngs)[0], plain)
        allowed = dependents(case, source, calls=recorder.calls) & set(units)
        assert changed <= allowed, f"unit {source} leaked into {sorted(changed - allowed)}"
        if hasattr(case.objective, "levels"):  # labels of a toy codebook may survive a change; latents may not
            assert changed == allowed, f"unit {source} did not reach {sorted(allowed - changed)}"


@pytest.mark.parametrize("case", [c for c in NOISY if hasattr(c.objective, "levels")], ids=lambda c: c.name)
def test_action_of_one_unit_moves_its_dependents_only(case):
    plain, recorder = case.run_ring()
    units = sorted({u for _, u in plain})
    source = units[len(units) // 2]
    if source in case.given:
        source += 1

    def cond(layout):
        return case.cond(layout) + 0.7 * (layout.row_unit == source)[..., None]

    changed = moved(plain, case.run_ring(cond=cond)[0], plain)
    assert changed == dependents(case, source, by_action=True, calls=recorder.calls) & set(units)


def test_given_code_moves_its_dependents_only():
    case = BY_NAME["frame, image to video, eager"]
    plain, _ = case.run_ring()
    other = {**case.codes, 1: case.codes[1] + 0.5}
    assert moved(plain, case.but(codes=other).run_ring()[0], plain) == {2, 3, 4}


def test_twin_a_leak_that_both_sides_share_is_found():
    """Attention that adds a trace of every slot's input to all: cached and recomputed share it, P5 finds it."""
    case = BY_NAME["frame, eager"]

    class Leaky(ToyModel):
        def forward(self, inputs, layout, cond=None, state=None):
            out = super().forward(inputs, layout, cond, state)
            return out + 1e-3 * float(sum(rng.normal("start", 3, 0, (1,)) for rng in self.rngs))

    leaky = Leaky(case.objective.input_width, CHANNELS, ["main"], 3)
    leaky.rngs = case.rngs
    case = case.but(model=leaky)
    assert largest_difference(case.run_ring(), case.run_oracle()) < 1e-12
    plain, _ = case.run_ring()
    leaky.rngs = [OneUnitOtherwise(rng, 3) for rng in case.rngs]
    changed = moved(plain, case.run_ring(rngs=leaky.rngs)[0], plain)
    assert not changed <= dependents(case, 3)
