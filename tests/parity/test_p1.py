"""P1: a training forward (one Step, no state) equals the decode passes slot by slot."""

from dataclasses import replace

import pytest
import torch
from cases import BY_NAME, CASES, CHANNELS
from toys import ToyModel

from vidar.core.layout import compile_layout
from vidar.core.step import Row, single, twin
from vidar.types import MEMORY, QUERY

TOLERANCE = 1e-12


def passes_of(case, recorder):
    """(unit, role, step) -> (inputs, outputs) [B, n, ..] of every pass of a decode."""
    table = {}
    for layout, inputs, out in recorder.calls:
        step = layout.row_step[layout.row]
        slots = zip(layout.slots.unit[0].tolist(), layout.slots.role[0].tolist(), step.tolist())
        for unit, role, i in set(slots):
            if unit < 0:
                continue
            where = (layout.slots.unit[0] == unit) & (layout.slots.role[0] == role) & (step == i)
            table[unit, role, i] = (inputs[:, where], out[:, where])
    return table


def training_rows(case, table, index):
    """Training rows whose decode passes were recorded, and those passes, for refinement step `index`."""
    units = sorted({unit for unit, _, _ in table})
    commit = {u: (u, MEMORY, -1) if (u, MEMORY, -1) in table else (u, MEMORY, 0) for u in units}
    committed = [u for u in units if commit[u] in table]
    if case.training == "single":
        return single(committed), [commit[u] for u in committed]
    asked = [u for u in units if (u, QUERY, index) in table]
    rows = twin(committed)[: len(committed)] + tuple(Row(u, QUERY, index) for u in asked)
    return rows, [commit[u] for u in committed] + [(u, QUERY, index) for u in asked]


def difference(case, order=None):
    _, recorder = case.run_ring()
    table = passes_of(case, recorder)
    worst, compared = 0.0, 0
    for index in sorted({i for _, role, i in table if role == QUERY} or {0}):
        rows, keys = training_rows(case, table, index)
        layout = compile_layout(rows, order or case.order, case.grids[:1])
        inputs = torch.cat([table[key][0] for key in keys], dim=1)
        expected = torch.cat([table[key][1] for key in keys], dim=1)
        with torch.no_grad():
            out = case.model(inputs, layout, case.cond(layout), None)
        worst = max(worst, float((out - expected).abs().max() / expected.abs().max()))
        compared += len(keys)
    assert compared > 1
    return worst


TRAINED = [case for case in CASES if case.training and len(set(map(id, case.grids))) == 1]


@pytest.mark.parametrize("case", TRAINED, ids=lambda c: c.name)
def test_training_forward_equals_decode_passes(case):
    assert difference(case) < TOLERANCE


def single_difference(case):
    """SINGLE: committed units at their context level and one unit at a solver level, all as MEMORY rows."""
    _, recorder = case.run_ring()
    table, worst = passes_of(case, recorder), 0.0
    asked = [key for key in table if key[1] == QUERY]
    assert asked
    for unit, role, step in asked:
        before = [u for u in range(unit) if (u, MEMORY, -1) in table]
        layout = compile_layout(single([*before, unit]), case.order, case.grids[:1])
        inputs = torch.cat([table[u, MEMORY, -1][0] for u in before] + [table[unit, role, step][0]], dim=1)
        expected = table[unit, role, step][1]
        with torch.no_grad():
            out = case.model(inputs, layout, case.cond(layout), None)[:, -expected.shape[1] :]
        worst = max(worst, float((out - expected).abs().max() / expected.abs().max()))
    return worst


@pytest.mark.parametrize("name", ["frame, eager", "endless, window 3, sinks 0, eager, 1 rows"])
def test_single_stream_equals_decode_passes(name):
    """A model of one stream is not told the role of a slot: one that is, fails."""
    case = BY_NAME[name]
    blind = ToyModel(case.objective.input_width, CHANNELS, ["main"], 3, roles=False)
    assert single_difference(case.but(model=blind)) < TOLERANCE
    assert single_difference(case) > 1e-2


@pytest.mark.parametrize("case", [c for c in TRAINED if c.training == "twin"], ids=lambda c: c.name)
def test_twin_joint_in_twin_fails(case):
    """Units in flight that read each other are a different model."""
    joint = {name: replace(r, joint=True) for name, r in case.order.relations.items()}
    assert difference(case, replace(case.order, relations=joint)) > 1e-3


@pytest.mark.parametrize("case", [c for c in TRAINED if "frame" in c.name or "scale" in c.name], ids=lambda c: c.name)
def test_twin_swapped_table_row_fails(case):
    """A reader that sees what its neighbour should see."""

    other = 1 + case.order.unit_cells

    def swapped(rule):
        return lambda q, k: rule(torch.where(q == other, 1, torch.where(q == 1, other, q)), k)

    wrong = {name: replace(r, sees=swapped(r.sees)) for name, r in case.order.relations.items()}
    assert difference(case, replace(case.order, relations=wrong)) > 1e-3
