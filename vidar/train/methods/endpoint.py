"""Distillation of where a solver ends: the student answers in one call what its teacher plays in several.

Luhman and Luhman, "Knowledge Distillation in Iterative Generative Models for Improved Sampling Speed", 2021: the
teacher's sampler is deterministic, so its end is a function of the noise, and a squared error learns that function
and not a mean. Choice: from every level of the path, not from noise alone, so that the student may be played in
several calls with fresh noise between them; and with the teacher's own solver, second-order term and all, which gives
its dreams the detail and motion that the exact path (consistency.py) has less of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.objectives.flow import shift
from vidar.objectives.steppers import AdamsBashforthConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.adversary import Student, product
from vidar.train.methods.consistency import Net
from vidar.train.methods.distillation import DistillationConfig, Distilled, squared
from vidar.types import Loss


class EndpointConfig(DistillationConfig):
    """solver: of the teacher, one without noise; calls: of it from noise to data, over levels shifted by `shift`.

    p_noise: share of frames asked from pure noise, as the first call of play asks; the others from anywhere.
    recentre: what a frame should be has the mean code of the true frame, so that a student whose context has grown too
    bright or too dark learns to come back, which its teacher under the same context tells only in part. mean_weight: of
    the squared error of a frame's mean code beside that of its sites, in which it has a share of one in as many sites.
    """

    solver: Config = AdamsBashforthConfig()
    calls: int = Field(default=2, ge=1)
    shift: float = Field(default=3.0, gt=0)
    p_noise: float = Field(default=0.5, ge=0, le=1)
    recentre: bool = True
    mean_weight: float = Field(default=0.0, ge=0)

    def build(self) -> Endpoint:
        """The method. Raises UsageError where the student does not play as one."""
        return Endpoint(self)


class Endpoint(Distilled):
    """`step` is one loss on latent clips; `export` writes the student with the tokenizer of its teacher."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        super().__init__(config)
        self.solver: Any = config.solver.build()

    def step(self, model: WorldNet | Student, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        net, rows = product(model), self.pair.clips.layout.num_rows
        path = self.levels(torch.stack([rng.uniform("endpoint_level", shape=(2, rows)) for rng in rngs]))
        clips = self.pair.noised(net, batch, rngs, path[0])
        levels = [clips.slots(part) for part in path]
        wanted = solver_end(self.solver, clips.data(self.teacher.net), clips.x, levels)
        row = clips.clips.layout.row
        if self.config.recentre:
            wanted = wanted + row_means(clips.clean - wanted, row)
        made = clips.data(net)(clips.x, levels[0])
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
    row = row.to(x.device)
    count = torch.bincount(row).to(x)
    return (x.new_zeros(len(x), len(count), x.shape[2]).index_add(1, row, x) / count[:, None])[:, row]


@torch.no_grad()
def solver_end(solver: Any, teacher: Net, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Where a stepper leads from x [.., C] at levels[0] [.., 1], call by call over levels down to 0: [.., C]."""

    def noise() -> Tensor:
        raise ValueError("the end of a solver that draws noise is no function of where it began")

    history = None
    for call in range(len(levels) - 1):
        v = (x - teacher(x, levels[call])) / levels[call]
        x, history = solver.update(x, v, call, levels, history, noise, 0)
    return x
