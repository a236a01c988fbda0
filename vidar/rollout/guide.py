"""Guidance as a hook of every call: a weight for each unit that is refined, by its call and its frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from vidar.core.decode import Decoder
from vidar.core.objective import Objective
from vidar.core.schedules import refinements
from vidar.core.step import Row, Step
from vidar.core.system import System
from vidar.sampling.guidance import GuideConfig


def guided(
    decoder: Decoder, guide: GuideConfig | None, system: System[Objective], step: Step, clocks: Sequence[int]
) -> Decoder:
    """The decoder for a call of rows at these clocks, the rows without the condition behind those with it."""
    if guide is None:
        return decoder
    weights = {row: _weights(guide, system, [clock + row.unit for clock in clocks], row.step) for row in _asked(step)}
    first, *others = weights.values()
    if all(torch.equal(first, other) for other in others):
        return replace(decoder, combine=partial(guide.combine, weights=first))
    ones, grid = torch.ones_like(first), system.grid
    slots = [
        weights.get(row, ones)[:, None].expand(-1, len(grid.sites(max(0, clocks[0] + row.unit)))) for row in step.rows
    ]
    return replace(decoder, combine=partial(guide.combine, weights=torch.cat(slots, 1)))


def _asked(step: Step) -> list[Row]:
    return [row for row in step.rows if row.step is not None]


def _weights(guide: GuideConfig, system: System[Objective], units: Sequence[int], step: int | None) -> Tensor:
    """[B] of one unit a row. Calls count over all units of a group of frames.

    Choice: a frame counts as the first of its group; those of a planned segment, whose units count anew, as frame 0.
    """
    frames, number = system.frames, refinements(system.objective)
    group = frames.group(units[0])
    asked = [unit for unit in frames.units(group) if unit not in system.objective.given]
    call = asked.index(units[0]) * number + (step or 0)
    begun = torch.tensor([float(frames.frames(frames.group(unit)).start) for unit in units])
    return guide.weights(call, number * len(asked), begun)
