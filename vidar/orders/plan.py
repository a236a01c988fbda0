"""Macro and micro plans: key frames of a segment first, the rest in parallel (MMPL)."""

from __future__ import annotations

import torch

from vidar.core.grid import Grid, table_grid
from vidar.core.order import Order
from vidar.core.relation import Relation, table_rule

FIRST, PLAN, FILL_1, FILL_2 = range(4)  # units of a segment
EARLY, MIDDLE, TERMINAL = 1, 2, 3  # cells of the plan unit; cell 0 is the first frame, 4 and 5 the fills


def plan_order(num_segments: int, length: int, height: int, width: int) -> tuple[Order, Grid]:
    """Segments of `length` frames: first (given, re-encoded), plan (3 cells), fill 1, fill 2.

    The plan holds frame 1, the middle frame and the last one. A unit sees its own segment up to itself; fill 1 must
    not see the terminal cell. The first frame of segment s + 1 needs the plan of s: a content edge, so each segment
    is a task of its own. Raises ValueError for fewer than 6 frames.
    """
    if length < 6:
        raise ValueError(f"a segment of {length} frames has nothing to fill; use 6 or more")
    middle = length // 2
    cell_of_frame = torch.full((length,), 4)
    cell_of_frame[middle + 1 :] = 5
    cell_of_frame[0], cell_of_frame[1], cell_of_frame[middle], cell_of_frame[-1] = 0, EARLY, MIDDLE, TERMINAL
    unit_of_cell = torch.tensor([FIRST, PLAN, PLAN, PLAN, FILL_1, FILL_2])

    local = unit_of_cell[None, :] <= unit_of_cell[:, None]
    local[4, TERMINAL] = False
    sees = torch.block_diag(*[local.to(torch.long)] * num_segments).to(torch.bool)
    units = 4 * num_segments
    needs = torch.block_diag(*[torch.ones(4, 4).tril(-1)] * num_segments).to(torch.bool)
    for s in range(1, num_segments):
        needs[4 * s + FIRST, 4 * (s - 1) + PLAN] = True

    frames = torch.arange(num_segments * length)
    cell_frame = cell_of_frame[frames % length] + frames // length * 6
    t, y, x = torch.meshgrid(frames, torch.arange(height), torch.arange(width), indexing="ij")
    cell = cell_frame[t.reshape(-1)]
    cell_unit = torch.cat([unit_of_cell + 4 * s for s in range(num_segments)])
    coord = torch.stack([t, y, x], dim=-1).reshape(-1, 3)
    order = Order(
        {"main": Relation(table_rule(sees))},
        units,
        6 * num_segments,
        unit=lambda c: cell_unit[c],
        needs=table_rule(needs),
    )
    return order, table_grid(("t", "y", "x"), cell_unit[cell], cell, coord)
