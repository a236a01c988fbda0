"""Rectified flow with a level per unit.

Time convention: sigma up. x_s = (1 - s) x0 + s e, s = 1 is noise, s = 0 is data; the model predicts v = e - x0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.objectives.context import ContextNoiseConfig, with_level
from vidar.objectives.steppers import EulerConfig
from vidar.rng import Rng
from vidar.types import MEMORY, QUERY, Loss, Pass, Past, Target


def shift(level: float, k: float) -> float:
    """Time shift k u / (1 + (k - 1) u) of a sigma-up level (SD3, eq. 23): k > 1 spends more steps on noise."""
    return k * level / (1 + (k - 1) * level)


class FlowConfig(Config):
    """steps: of the solver in play. shift: of its levels. mean, std: logit-normal training levels (SD3)."""

    steps: int = Field(default=8, ge=1)
    shift: float = Field(default=1.0, gt=0)
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    stepper: Config = EulerConfig()
    context: Config = ContextNoiseConfig()

    def build(self, channels: int, grid: Grid, dtype: torch.dtype = torch.float32) -> Flow:
        """The objective over units of a grid with `channels` numbers per site."""
        return Flow(self, channels, grid, dtype)


class InFlight(NamedTuple):
    """x [n, C] and what the stepper remembers."""

    x: Tensor
    history: Any


class Flow:
    """Objective: passes are the solver's calls as QUERY, then the commit. Raw inputs: C channels and the level."""

    def __init__(self, config: FlowConfig, channels: int, grid: Grid, dtype: torch.dtype = torch.float32):
        self.config, self.channels, self.grid, self.dtype = config, channels, grid, dtype
        self.stepper = config.stepper.build()
        self.context = config.context.build()
        self.levels = [shift(1 - n / config.steps, config.shift) for n in range(config.steps + 1)]
        self.calls = self.stepper.evaluations(self.levels)
        self.passes: tuple[Pass, ...] = (*((QUERY, i) for i in range(len(self.calls))), (MEMORY, None))
        self.input_width = channels + 1

    def noise(self, unit: int, rng: Rng) -> Tensor:
        """The noise end of a unit, [n, C]."""
        return rng.normal("start", unit, 0, (self.grid.sites(unit).shape[0], self.channels)).to(self.dtype)

    def start(self, unit: int, past: Past, rng: Rng) -> InFlight:
        """x at level 1."""
        return InFlight(self.noise(unit, rng), None)

    def inputs(self, unit: int, x: InFlight, step: int) -> Tensor:
        """x and the level of this call, [n, C + 1]."""
        return with_level(x.x, self.calls[step])

    def update(self, unit: int, x: InFlight, out: Tensor, step: int, rng: Rng) -> InFlight:
        """One answer of the model taken by the stepper."""
        return InFlight(*self.stepper.update(x.x, out.to(x.x.device, self.dtype), step, self.levels, x.history))

    def finish(self, x: InFlight) -> Tensor:
        """The code is x at level 0."""
        return x.x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """What later units see: the code through the context transform at its play setting, [n, C + 1]."""
        return with_level(*self.context(unit, code.to(self.dtype), rng, play=True))

    def prepare(
        self, codes: Tensor, layout: Layout, rngs: Sequence[Rng], play: bool = False, levels: Tensor | None = None
    ) -> tuple[Tensor, Target, None]:
        """Training inputs of all rows; rows that only commit are context, every other row is asked for its velocity.

        codes [B, N, C] in site order -> seen [B, S, C + 1], target v [B, S, C]. `play` fixes the context transform to
        its play setting; `levels` [B, rows] replaces the drawn levels.
        """
        codes = codes.to(self.dtype)
        asked = layout.row_step >= 0
        slots, starts = layout.slots, [*layout.row_start.tolist(), layout.num_slots]
        seen = codes.new_zeros(codes.shape[0], layout.num_slots, self.input_width)
        value = codes.new_zeros(codes.shape[0], layout.num_slots, self.channels)
        for b, rng in enumerate(rngs):
            memo: dict[int, Tensor] = {}
            for m, unit in enumerate(layout.row_unit[0].tolist()):
                where = slice(starts[m], starts[m + 1])
                sites = slots.site[0, where]
                if unit not in memo:
                    memo[unit] = self.grid.sites(unit)
                inside = torch.searchsorted(memo[unit], sites)
                if not asked[m]:
                    code, level = self.context(unit, codes[b, memo[unit]], rng, play)
                    seen[b, where] = with_level(code[inside], level)
                    continue
                level = self.training_level(unit, rng) if levels is None else float(levels[b, m])
                clean, noise = codes[b, sites], self.noise(unit, rng)[inside]
                seen[b, where] = with_level((1 - level) * clean + level * noise, level)
                value[b, where] = noise - clean
        weight = asked[layout.row].to(codes.dtype).expand(codes.shape[0], -1)
        return seen, Target(value, weight), None

    def training_level(self, unit: int, rng: Rng) -> float:
        """Logit-normal: sigmoid(mean + std n), n ~ N(0, 1)."""
        n = float(rng.normal("level", unit, 0, (1,)))
        return float(torch.sigmoid(torch.tensor(self.config.mean + self.config.std * n)))

    def loss(self, out: Tensor, target: Target) -> Loss:
        """Mean squared error of the velocity over the asked slots."""
        error = (out.to(torch.promote_types(out.dtype, torch.float32)) - target.value).square().mean(dim=-1)
        total = (error * target.weight).sum() / target.weight.sum()
        return Loss(total, {"flow": total.detach()})
