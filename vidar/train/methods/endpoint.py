"""Distillation of a solver's end point: the student predicts in one call what its teacher computes in several.

Luhman and Luhman, "Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed", 2021: the
teacher's sampler is deterministic, so its end point is a function of the noise, and a squared error learns that
function and not a mean. Choice: the student learns from every level of the path, not only from noise, so that it can be
played in several calls with fresh noise between them. The end point is that of the teacher's own solver, including its
second-order term, which gives dreams more detail and motion than the exact path (consistency.py).
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
    """solver: the teacher's stepper, with one call per level and no noise of its own.

    These are EulerConfig, AdamsBashforthConfig and DPMSolverConfig. calls: number of its calls from noise to data, over
    levels shifted by `shift`. p_noise: share of frames that start from pure noise, like the first call of play; the
    others start from any level. recentre: give the target the mean code of the true frame, so that a student whose
    context has become too bright or too dark learns to return; its teacher under the same context corrects this only in
    part. mean_weight: weight of the squared error of a frame's mean code, beside the error of its sites (where the mean
    has a share of 1 / number of sites).
    """

    solver: StepperConfig = AdamsBashforthConfig()
    calls: int = Field(default=2, ge=1)
    shift: float = Field(default=3.0, gt=0)
    p_noise: float = Field(default=0.5, ge=0, le=1)
    recentre: bool = True
    mean_weight: float = Field(default=0.0, ge=0)

    def build(self) -> Endpoint:
        """The method. Raises UsageError if the student's stepper cannot play students, or for another solver."""
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
                f"method.solver: {type(config.solver).__name__} does not make one call per level, or draws noise; "
                "use EulerConfig, AdamsBashforthConfig or DPMSolverConfig"
            )
        layout = self.pair.clips.layout
        asked = zip(layout.row_unit[0].tolist(), layout.row_step.tolist(), strict=True)
        self.units = {row: unit for row, (unit, step) in enumerate(asked) if step >= 0}

    def step(self, model: WorldNet | Student, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """The loss on a batch of latent clips, with one Rng per clip."""
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
        """Two uniform numbers per row [B, 2, M] -> the levels of the teacher's calls, calls + 1 tensors [B, M]."""
        u = torch.where(drawn[:, 0] < self.config.p_noise, 1.0, drawn[:, 1].clamp_min(1e-3))
        return [shift(u * (1 - n / self.config.calls), self.config.shift) for n in range(self.config.calls + 1)]


def row_means(x: Tensor, row: Tensor) -> Tensor:
    """The mean of x over the slots of each row, at each slot: x [B, S, C], row long [S] -> [B, S, C]."""
    count = torch.bincount(row).to(x)
    return (x.new_zeros(len(x), len(count), x.shape[2]).index_add(1, row, x) / count[:, None])[:, row]


@torch.no_grad()
def solver_end(
    solver: Any, teacher: Net, x: Tensor, path: Sequence[Tensor], row: Tensor, units: Mapping[int, int]
) -> Tensor:
    """The end point of a stepper from x [B, S, C] in the rows of `units` (row -> unit); other rows stay unchanged.

    path: levels [B, M] of each row before each call; the last ones are 0. row: long [S]. Each row runs as in play, with
    its levels as plain numbers and its own unit number.
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
    """Whether a stepper makes one call at each of these levels (the last is 0, without a call) and draws no noise."""
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
    """Raises UsageError, because the end point of a solver that draws noise is not a function of its start."""
    raise UsageError("the end point of a solver that draws noise is not a function of its start")
