"""Guidance of a rollout: each refined unit has a guidance weight, which depends on its call and its frame."""

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
    """The decoder with guidance for one Step of rows at these clocks.

    The unconditional rows follow the conditional rows in the batch. Returns the decoder unchanged without `guide`.
    """
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
    """Weights [B] for one unit per row. Calls are counted over all units of a group of frames.

    Choice: every frame of a group has the number of the group's first frame; in a planned segment, whose units are
    counted from 0, that is frame 0.
    """
    frames, number = system.frames, refinements(system.objective)
    group = frames.group(units[0])
    asked = [unit for unit in frames.units(group) if unit not in system.objective.given]
    call = asked.index(units[0]) * number + (step or 0)
    begun = torch.tensor([float(frames.frames(frames.group(unit)).start) for unit in units])
    return guide.weights(call, number * len(asked), begun)
