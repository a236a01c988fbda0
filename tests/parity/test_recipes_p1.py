"""P1 over every recipe with an Order: its training rows in one call equal the passes of its decode, slot by slot."""

from dataclasses import replace

import pytest
import torch
from recipe_cases import subjects, trained
from recipe_training import difference, one_call, pass_of
from test_p1 import passes_of
from test_p1b import TOLERANCE

from vidar.core.layout import compile_layout
from vidar.core.step import Row, single
from vidar.types import MEMORY, QUERY

SUBJECTS = subjects()
ONE_RULE = [name for name, s in SUBJECTS.items() if s.refines and all(r.memory is None for r in s.relations)]


def in_turn(rows):
    """SINGLE rows of what is refined: each unit by itself, after those that were finished before it."""
    if any(row.role == QUERY or row.step is None for row in rows):
        return [rows]
    return [(*(Row(before.unit, MEMORY, None) for before in rows[:n]), row) for n, row in enumerate(rows)]


def moved_on(rows, by):
    """The rows of a chunk behind a prefix one chunk later, where the ring no longer holds all of the prefix."""
    first = min(row.unit for row in rows if row.role == QUERY)
    later = [row._replace(unit=row.unit + by) for row in rows if row.role == QUERY]
    return (*(Row(unit, MEMORY, None) for unit in range(first + by)), *later)


@pytest.mark.parametrize("name", SUBJECTS)
def test_p1_training_rows_equal_decode_passes(name):
    """Of every layout that training may draw; of SINGLE rows each unit in its turn, at each of its levels."""
    subject, (case, (_, recorder, _)) = SUBJECTS[name], trained(name)
    drawn = [*subject.rows, *([moved_on(subject.rows[-1], subject.depth)] if subject.depth > 1 else [])]
    for rows in drawn:
        for call in in_turn(rows) if subject.refines else [rows]:
            assert difference(case, recorder, call) < TOLERANCE


def all_of(case, recorder):
    """Rows of TWIN over all units of a run that were committed, and were in flight."""
    table = passes_of(case, recorder)
    shown, asked = (sorted({unit for unit, role, _ in table if role == wanted}) for wanted in (MEMORY, QUERY))
    return *(Row(unit, MEMORY, None) for unit in shown), *(Row(unit, QUERY, 0) for unit in asked)


def hears_its_role(case, unit):
    """Whether the network tells apart a unit in flight from a committed one where both read themselves alone."""
    inputs = torch.ones(1, len(case.grids[0].sites(unit)), case.objective.input_width, dtype=torch.float64)
    layouts = [compile_layout([Row(unit, role, 0)], case.order, case.grids) for role in (QUERY, MEMORY)]
    with torch.no_grad():
        a, b = (case.model(inputs, layout, case.cond(layout), None) for layout in layouts)
    return not torch.equal(a, b)


@pytest.mark.parametrize("name", ONE_RULE)
def test_p1_twin_and_single_rows_are_one_model(name):
    """Where one rule holds for both roles, unless the network is told the role: then SINGLE is another model."""
    case, (_, recorder, _) = trained(name)
    rows = all_of(case, recorder)
    assert difference(case, recorder, rows) < TOLERANCE
    asked = [row.unit for row in rows if row.role == QUERY]
    clean = {unit: tuple(row for row in rows if row.role == MEMORY and row.unit < unit) for unit in asked}
    apart = max(difference(case, recorder, (*clean[unit], *single([unit]))) for unit in asked)
    assert apart > 1e-3 if hears_its_role(case, asked[0]) else apart < TOLERANCE


def test_who_is_told_the_role():
    told = {name for name in ONE_RULE if hears_its_role(trained(name)[0], 1)}
    assert {"acdit", "acdit_doom"} <= told and not {"world_doom", "world_nfd", "xar_doom", "mmpl_doom"} & told


# twins: each of these must fail


def wider(case, rows):
    """Orders in which one unit that is asked reads one more of another, where it reads a part of it or nothing."""
    unit, grid = case.order.unit, case.grids[0]
    cells = {row.unit: grid.cell(grid.sites(row.unit)).unique() for row in rows}
    pairs = [
        (a.unit, b.unit) for a in rows for b in rows if a.step is not None and b.role == MEMORY and a.unit != b.unit
    ]
    found = []
    for name, relation in case.order.relations.items():
        for u, v in pairs:
            seen = relation.sees(cells[u][:, None], cells[v])

            def more(q, k, rule=relation.sees, u=u, v=v):
                return rule(q, k) | ((q >= 0) & (k >= 0) & (unit(q.clamp(min=0)) == u) & (unit(k.clamp(min=0)) == v))

            if not seen.all():
                relations = {**case.order.relations, name: replace(relation, sees=more)}
                found.append((not seen.any(), replace(case.order, relations=relations)))
    return [order for _, order in sorted(found, key=lambda one: one[0])]


def masks(case, rows, order):
    return torch.stack([view.dense for view in compile_layout(rows, order, case.grids).views.values()])


@pytest.mark.parametrize("name", SUBJECTS)
def test_p1_twins_fail(name):
    """A unit that reads what it should not; what is committed, in flight instead."""
    subject, (case, (_, recorder, _)) = SUBJECTS[name], trained(name)
    rows, table = max(subject.rows, key=len), passes_of(case, recorder)
    if subject.refines and in_turn(rows) != [rows]:
        rows = all_of(case, recorder)
    keys, asked = [pass_of(row, table) for row in rows], sum(row.step is not None for row in rows)
    assert one_call(case, table, rows, keys, last=asked) < TOLERANCE
    plain = masks(case, rows, case.order)
    wide = next(order for order in wider(case, rows) if not torch.equal(masks(case, rows, order), plain))
    assert one_call(case, table, rows, keys, wide, asked) > 1e-4
    assert one_call(case, table, [row._replace(role=QUERY) for row in rows], keys, last=asked) > 1e-6
