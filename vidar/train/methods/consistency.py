"""Discrete consistency distillation of a world: a student that needs few calls where its teacher needs many.

A point on the teacher's path is moved one solver step towards the data, and the student must predict the same x0 from
both points (Song et al., "Consistency Models", 2023, algorithm 2 with the student itself as target network; dCM in the
code of rCM, NVlabs/rcm). Every frame has its own level. The student plays with fresh noise between its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.objectives.flow import shift
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.adversary import Student, product
from vidar.train.methods.distillation import DistillationConfig, Distilled
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss

Net = Callable[[Tensor, Tensor], Tensor]  # x, level [.., 1] -> x0


class ConsistencyConfig(DistillationConfig):
    """See `DistillationConfig`; the student plays with RenoiseConfig.

    intervals: number of steps of the teacher's solver from noise to data; levels are shifted by `shift`. Choice: a step
    starts at any level, not on a grid, so that the student is trained at every level.
    """

    intervals: int = Field(default=48, ge=2)
    shift: float = Field(default=3.0, gt=0)

    def build(self) -> Consistency:
        """The method. Raises UsageError if the student's stepper cannot play students."""
        return Consistency(self)


class Consistency(Distilled):
    """`step` computes the loss on latent clips; `export` writes the student with the tokenizer of its teacher."""

    def __init__(self, config: ConsistencyConfig) -> None:
        self.config = config
        super().__init__(config)

    def step(self, model: WorldNet | Student, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        net, rows = product(model), self.pair.clips.layout.num_rows
        now, later = self.levels(torch.stack([rng.uniform("student_level", shape=(rows,)) for rng in rngs]))
        clips = self.pair.noised(net, batch, rngs, now, ranks)
        student, level = clips.data(net), clips.slots(now)
        wanted = consistency_target(student, clips.data(self.teacher.net), clips.x, level, clips.slots(later))
        return self.pair.regression(model, clips, student(clips.x, level), wanted, rngs)

    def gap(self, model: WorldNet | Student, batch: LatentBatch, rngs: Sequence[Rng]) -> float:
        """See `Distillation.gap`; the teacher's path has the intervals of the config."""
        levels = [shift(1 - n / self.config.intervals, self.config.shift) for n in range(self.config.intervals + 1)]
        return self.pair.gap(product(model), batch, rngs, levels)

    def levels(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform [..] -> the level of a point, and the level one interval closer to the data."""
        both = u, (u - 1 / self.config.intervals).clamp_min(0)
        k = self.config.shift
        return shift(both[0], k), shift(both[1], k)


@torch.no_grad()
def consistency_target(student: Net, teacher: Net, x: Tensor, level: Tensor, later: Tensor) -> Tensor:
    """The student's x0 after one Euler step of the teacher towards the data; at level 0, the point itself.

    student, teacher: (x, level) -> x0, [.., C]. level > later >= 0, [.., 1].
    """
    moved = x + (later - level) * (x - teacher(x, level)) / level
    return torch.where(later > 0, student(moved, later), moved)
