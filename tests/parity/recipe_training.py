"""A recipe's training beside its decode: rows and passes, what `prepare` is given, units that come out as given."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from test_p1 import passes_of

from vidar.core.layout import compile_layout
from vidar.types import MEMORY, QUERY


def latents(objective, grid, units):
    """What `prepare` is given for a clip of these units: codes [1, N, C], or latents before quantisation."""
    generator = torch.Generator().manual_seed(8)
    if any(role == QUERY for role, _ in objective.passes):
        count = 1 + max(int(grid.sites(unit).max()) for unit in units)
    else:
        pyramids = getattr(objective, "pyramids", None) or [objective.pyramid] * -(-len(units) // objective.period)
        count = sum(prod(pyramid.sizes[-1]) for pyramid in pyramids)
    return torch.randn(1, count, objective.channels, generator=generator, dtype=torch.float64)


def pass_of(row, table, index=0):
    """The pass of a decode that a row of training stands for; index: of the refinement step that is asked."""
    commit = (row.unit, MEMORY, -1) if (row.unit, MEMORY, -1) in table else (row.unit, MEMORY, 0)
    asked = (row.unit, QUERY, index)
    return asked if row.step is not None and asked in table else commit


def difference(case, recorder, rows):
    """Training rows in one call, fed what decode fed, against what it was answered, at each refinement step."""
    table, worst = passes_of(case, recorder), 0.0
    for index in sorted({i for _, role, i in table if role == QUERY} or {0}):
        rows = [row._replace(step=index) if row.role == QUERY and row.step is not None else row for row in rows]
        worst = max(worst, one_call(case, table, rows, [pass_of(row, table, index) for row in rows]))
    return worst


def one_call(case, table, rows, keys, order=None, last=None):
    """The largest difference of a row, relative to its own largest answer. last: of so many rows, the last ones."""
    layout = compile_layout(rows, order or case.order, case.grids[:1])
    with torch.no_grad():
        out = case.model(torch.cat([table[key][0] for key in keys], 1), layout, case.cond(layout), None)
    answers = out.split([table[key][1].shape[1] for key in keys], 1)
    pairs = list(zip(answers, (table[key][1] for key in keys)))[-(last or len(keys)) :]
    return max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in pairs)


class Made(NamedTuple):
    code: torch.Tensor


class Clamped:
    """An objective some of whose units come out as given codes, whatever the model answers."""

    def __init__(self, inner, codes):
        self.inner, self.codes, self.last = inner, codes, max(i for _, i in inner.passes if i is not None)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def update(self, unit, x, out, step, rng):
        given = step == self.last and unit in self.codes
        return Made(self.codes[unit]) if given else self.inner.update(unit, x, out, step, rng)

    def finish(self, x):
        return x.code if isinstance(x, Made) else self.inner.finish(x)
