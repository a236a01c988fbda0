"""Distillation of where a solver ends: the student answers in one call what its teacher plays in several.

Luhman and Luhman, "Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed", 2021: the
teacher's sampler is deterministic, so its end is a function of the noise, and a squared error learns that function
and not a mean. Choice: from every level of the path, not from noise alone, so that the student may be played in
several calls with fresh noise between them; and with the teacher's own solver, second-order term and all, which gives
its dreams the detail and motion that the exact path (consistency.py) has less of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.objectives.flow import shift
from vidar.objectives.protocols import StepperConfig
from vidar.objectives.rows import slot_tables
from vidar.objectives.steppers import AdamsBashforthConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.adversary import Student, product
from vidar.train.methods.consistency import Net
from vidar.train.methods.distillation import DistillationConfig, Distilled, squared
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss, UsageError


class EndpointConfig(DistillationConfig):
    """solver: of the teacher, one that makes one call a level and draws no noise: EulerConfig, AdamsBashforthConfig or
    DPMSolverConfig. calls: of it from noise to data, over levels shifted by `shift`.

    p_noise: share of frames asked from pure noise, as the first call of play asks; the others from anywhere.
    recentre: what a frame should be has the mean code of the true frame, so that a student whose context has grown too
    bright or too dark learns to come back, which its teacher under the same context tells only in part. mean_weight: of
    the squared error of a frame's mean code beside that of its sites, in which it has a share of one in as many sites.
    """

    solver: StepperConfig = AdamsBashforthConfig()
    calls: int = Field(default=2, ge=1)
    shift: float = Field(default=3.0, gt=0)
    p_noise: float = Field(default=0.5, ge=0, le=1)
    recentre: bool = True
    mean_weight: float = Field(default=0.0, ge=0)

    def build(self) -> Endpoint:
        """The method. Raises UsageError where the student does not play as one or the solver is none of these."""
        return Endpoint(self)


class Endpoint(Distilled):
    """`step` is one loss on latent clips; `export` writes the student with the tokenizer of its teacher."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        super().__init__(config)
        self.solver = config.solver.build()
        ends = self.levels(torch.tensor([[[0.0, 1.0], [1.0, 0.5]]], dtype=torch.float64))  # from noise, from between
        if not all(one_call_a_level(self.solver, walk) for walk in torch.stack(ends, -1)[0].tolist()):
            raise UsageError(
                f"method.solver: {type(config.solver).__name__} makes other than one call a level or draws noise; "
                "take EulerConfig, AdamsBashforthConfig or DPMSolverConfig"
            )
        layout = self.pair.clips.layout
        asked = zip(layout.row_unit[0].tolist(), layout.row_step.tolist(), strict=True)
        self.units = {row: unit for row, (unit, step) in enumerate(asked) if step >= 0}

    def step(self, model: WorldNet | Student, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        net, rows = product(model), self.pair.clips.layout.num_rows
        path = self.levels(torch.stack([rng.uniform("endpoint_level", shape=(2, rows)) for rng in rngs]))
        clips = self.pair.noised(net, batch, rngs, path[0], ranks)
        row = slot_tables(clips.clips.layout, clips.seen.device).row
        wanted = solver_end(self.solver, clips.data(self.teacher.net), clips.x, path, row, self.units)
        if self.config.recentre:
            wanted = wanted + row_means(clips.clean - wanted, row)
        made = clips.data(net)(clips.x, clips.slots(path[0]))
        loss = self.pair.regression(model, clips, made, wanted, rngs)
        if not self.config.mean_weight:
            return loss
        means = (squared(row_means(made - wanted, row)) * clips.weight).sum() / clips.weight.sum()
        return Loss(loss.total + self.config.mean_weight * means, {**loss.parts, "means": means.detach()})

    def levels(self, drawn: Tensor) -> list[Tensor]:
        """Two uniform numbers [B, 2, M] -> the levels of the teacher's calls from a point to 0, calls + 1 of [B, M]."""
        u = torch.where(drawn[:, 0] < self.config.p_noise, 1.0, drawn[:, 1].clamp_min(1e-3))
        return [shift(u * (1 - n / self.config.calls), self.config.shift) for n in range(self.config.calls + 1)]


def row_means(x: Tensor, row: Tensor) -> Tensor:
    """The mean over the slots of each row, at each of them: x [B, S, C], row long [S] -> [B, S, C]."""
    count = torch.bincount(row).to(x)
    return (x.new_zeros(len(x), len(count), x.shape[2]).index_add(1, row, x) / count[:, None])[:, row]


@torch.no_grad()
def solver_end(
    solver: Any, teacher: Net, x: Tensor, path: Sequence[Tensor], row: Tensor, units: Mapping[int, int]
) -> Tensor:
    """Where a stepper leads from x [B, S, C] in the rows of `units` (row -> unit); the others stay as they are.

    path: levels [B, M] of each row before each call, the last ones 0. row: long [S]. Every row walks as in play: over
    levels that are numbers, as the unit that it is.
    """
    history, walks = {}, torch.stack(list(path), -1).tolist()
    slots = {m: torch.nonzero(row == m)[:, 0] for m in units}
    for call, level in enumerate(path[:-1]):
        now = level.to(x)[:, row, None]
        v = (x - teacher(x, now)) / now
        moved = x.clone()
        for m, unit in units.items():
            for b, levels in enumerate(walk[m] for walk in walks):
                here, slope, known = x[b, slots[m]], v[b, slots[m]], history.get((b, m))
                moved[b, slots[m]], history[b, m] = solver.update(here, slope, call, levels, known, no_noise, unit)
        x = moved
    return x


def one_call_a_level(solver: Any, levels: Sequence[float]) -> bool:
    """Whether a stepper walks over these levels, the last of them 0, with one call at each and without noise."""
    if list(solver.evaluations(levels)) != list(levels[:-1]):
        return False
    x, history = torch.zeros(1, dtype=torch.float64), None
    try:
        for call in range(len(levels) - 1):
            x, history = solver.update(x, x, call, levels, history, no_noise, 0)
    except UsageError:
        return False
    return True


def no_noise() -> Tensor:
    """Raises UsageError: the end of a solver that draws noise is no function of where it began."""
    raise UsageError("the end of a solver that draws noise is no function of where it began")
