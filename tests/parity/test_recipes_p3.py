"""P3 over every recipe with an Order: `prepare` gives in one call what decode feeds the network unit by unit."""

import pytest
import torch
from case import shown
from recipe_cases import subjects, trained
from recipe_training import Clamped, latents, pass_of
from test_p1 import passes_of

from vidar.core.layout import compile_layout
from vidar.rng import Rng
from vidar.types import Past

SUBJECTS = subjects()
REFINED = [name for name, subject in SUBJECTS.items() if subject.refines]
PREDICTED = [name for name in SUBJECTS if name not in REFINED]


def slots_of(layout, row):
    step = -1 if row.step is None else row.step
    steps = layout.row_step[layout.row]
    return (layout.slots.unit[0] == row.unit) & (layout.slots.role[0] == row.role) & (steps == step)


def data_left(objective):
    """How much of the data is in what play begins from, as training has it: a chain of betas keeps a little."""
    return 0.0 if objective.calls[0] == 1 else float(objective.whole.alpha_bar[-1].sqrt())


def prepared(subject, case, layout, codes):
    """`prepare` at play's setting, what is asked at the level that play begins at."""
    o = case.objective
    at = {"levels": torch.full((1, layout.num_rows), o.calls[0])} if subject.refines else {}
    return o.prepare(codes, layout, [Rng(1, 2)], play=True, **at, **remembered(o, case.grids[0], codes))


def remembered(o, grid, codes):
    """What a memory shows of every site of a clip [1, N, W], as in `Case.ready`, if the objective takes it."""
    width = getattr(getattr(o, "config", None), "shown", 0)
    if not width:
        return {}
    units = codes.shape[1] // len(grid.sites(0))
    return {"shown": torch.cat([shown(grid, unit, width, o.channels) for unit in range(units)])[None]}


@pytest.mark.parametrize("name", SUBJECTS)
def test_p3_prepare_equals_decode(name):
    """In bits, of every layout that training may draw. Asked is all that decode makes, and nothing that it is given."""
    subject, (case, _) = SUBJECTS[name], trained(name)
    o, grid = case.objective, case.grids[0]
    for rows in subject.rows:
        layout, units = compile_layout(rows, case.order, case.grids), {row.unit for row in rows}
        codes = latents(o, grid, range(max(units) + 1))
        seen, target, keep = prepared(subject, case, layout, codes)
        assert keep is None
        value = codes if subject.refines else target.value
        where = {
            u: grid.sites(u) if subject.refines else layout.slots.unit[0] == u for u in units if u not in case.given
        }
        code = {unit: value[0, at] for unit, at in where.items()}
        known = {unit: code[unit][None] for unit in case.codes}
        clamped = case.but(objective=Clamped(o, code), codes=known, seed=1, videos=[2])
        made, recorder = clamped.run_ring()
        assert all(torch.equal(made[0, unit], code[unit]) for unit in code if unit not in known)
        table, off = passes_of(clamped, recorder), 4 * data_left(o) if subject.refines else 0
        for row in rows:
            at, asked = slots_of(layout, row), row.step is not None and row.unit not in case.given
            fed = table[pass_of(row, table)][0][0]
            assert float((seen[0, at] - fed).abs().max()) <= off * asked, f"unit {row.unit}"
            assert bool((target.weight[0, at] > 0).all()) == bool((target.weight[0, at] > 0).any()) == asked


@pytest.mark.parametrize("name", PREDICTED)
def test_p3_what_is_committed_is_what_it_was_predicted_from(name):
    """And of a unit that is given, its code."""
    case, run = trained(name)
    codes, o = {u: c for (_, u), c in run.codes.items()}, case.objective
    for u in codes:
        past = Past({v: codes[v] for v in codes if case.order.need(u, v)}, {})
        committed = o.memory(u, codes[u], past, Rng(0))
        if u in case.given:
            assert torch.equal(committed[:, : o.channels], codes[u])
        else:
            assert torch.equal(committed, o.inputs(u, o.start(u, past, Rng(0)), 0))


@pytest.mark.parametrize("name", REFINED)
def test_p3_a_level_for_each_unit(name):
    """One for all its frames in training, as in play, and for each unit another, but in a first frame that is known."""
    subject, (case, _) = SUBJECTS[name], trained(name)
    layout = compile_layout(subject.rows[-1], case.order, case.grids)
    codes = torch.zeros_like(latents(case.objective, case.grids[0], range(1 + int(layout.slots.unit.max()))))
    level = case.objective.prepare(codes, layout, [Rng(0)])[0][0, :, -1]
    asked = [row for row in subject.rows[-1] if row.step is not None]
    found = [level[slots_of(layout, row)].unique() for row in asked]
    assert all(len(values) == 1 for values in found)
    levels = torch.cat(found)
    drawn = levels[levels > 0]
    assert len(drawn.unique()) == len(drawn) >= len(asked) - (subject.period if subject.endless else 0)
