"""Consistency distillation of a world, discrete: a student that answers in a few calls what its teacher needs many for.

dCM: a point on the teacher's path is moved one step of its solver towards the data, and the student has to give the
same answer from both ends (causal-diffusion 15.2; Song et al., "Consistency Models", 2023, algorithm 2 with the student
itself as target network). Every frame has its own level. The student plays with fresh noise between its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vidar.conditioning.action import Actions
from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.objectives.flow import shift
from vidar.objectives.steppers import RenoiseConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.world import SingleConfig, TrainWorldConfig, TwinConfig
from vidar.types import Loss, UsageError
from vidar.world.load import START, load, locate, save
from vidar.world.world import World, WorldConfig

Net = Callable[[Tensor, Tensor], Tensor]  # x, level [.., 1] -> answer


class ConsistencyConfig(Config):
    """teacher: a world of the same network. world: of the student, its `steps` those of play, with RenoiseConfig.

    intervals: steps of the teacher's solver from noise to data; levels are shifted by `shift`. Choice: they begin
    anywhere, not on a grid, so that the student is asked at every level.
    """

    teacher: str
    world: WorldConfig
    stream: TwinConfig | SingleConfig = TwinConfig()
    clip_frames: int = Field(ge=2)
    intervals: int = Field(48, ge=2)
    shift: float = Field(3.0, gt=0)

    def build(self) -> Consistency:
        """The method. Raises UsageError where the student does not play as one."""
        return Consistency(self)


class Ends(NamedTuple):
    """student, teacher: (x, level) -> x0. x [B, S, C]; weight [B, S]; slots: levels of rows [B, M] -> [B, S, 1]."""

    student: Net
    teacher: Net
    x: Tensor
    weight: Tensor
    slots: Callable[[Tensor], Tensor]


class Consistency:
    """`step` is one loss on latent clips; `export` writes the student with the tokenizer of its teacher."""

    def __init__(self, config: ConsistencyConfig) -> None:
        if not isinstance(config.world.objective.stepper, RenoiseConfig):
            raise UsageError("method.world.objective.stepper: a consistency student plays with RenoiseConfig")
        self.config = config
        plain = TrainWorldConfig(
            world=config.world, tokenizer="", stream=config.stream, clip_frames=config.clip_frames, p_unknown=0.05
        )
        self.clips = plain.build()
        self._teacher: World | None = None

    @property
    def teacher(self) -> World:
        """The teacher in float32, read once. Raises UsageError where it is another network."""
        if self._teacher is None:
            known = load(self.config.teacher, dtype=torch.float32)
            if known.config.net != self.config.world.net:
                raise UsageError(f"{self.config.teacher}: its network differs from method.world.net; a student has it")
            self._teacher = known
        return self._teacher

    def build_model(self) -> WorldNet:
        """The student, which begins as its teacher."""
        net = self.config.world.net.build()
        net.load_state_dict(self.teacher.net.state_dict())
        return net

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        now, later = self.levels(self._uniform(rngs))
        ends = self._ends(model, batch, rngs, now)
        error = consistency_loss(ends.student, ends.teacher, ends.x, ends.slots(now), ends.slots(later))
        total = (error * ends.weight).sum() / ends.weight.sum()
        return Loss(total, {"consistency": total.detach()})

    @torch.no_grad()
    def gap(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> float:
        """Mean squared difference of the student's answer to pure noise from the end of the teacher's whole path."""
        grid = [self.levels(torch.full((len(rngs), self.clips.layout.num_rows), 1.0))[0]]
        for n in range(1, self.config.intervals + 1):
            grid.append(shift(torch.full_like(grid[0], 1 - n / self.config.intervals), self.config.shift))
        ends = self._ends(model, batch, rngs, grid[0])
        x = ends.x
        for now, later in zip(map(ends.slots, grid), map(ends.slots, grid[1:])):
            x = x + (later - now) * (x - ends.teacher(x, now)) / now
        error = (ends.student(ends.x, ends.slots(grid[0])) - x).square().mean(-1)
        return float((error * ends.weight).sum() / ends.weight.sum())

    def _uniform(self, rngs: Sequence[Rng]) -> Tensor:
        """One number for each row of each clip, [B, M]."""
        return torch.stack([rng.uniform("level", 0, 3, (self.clips.layout.num_rows,)) for rng in rngs])

    def _ends(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], now: Tensor) -> Ends:
        """A batch at levels `now` [B, M], and both networks on it."""
        objective, layout, device = self.clips.objective, self.clips.layout, next(model.parameters()).device
        hidden = torch.tensor([float(rng.uniform("drop")) < self.clips.config.p_unknown for rng in rngs])
        actions = Actions(batch.actions.to(device), (batch.unknown | hidden[:, None]).to(device))
        seen, target, _ = objective.prepare(batch.codes.flatten(1, 2), layout, rngs, levels=now)
        seen, channels = seen.to(device), objective.channels
        asked = target.weight.to(device)[..., None] > 0
        weight = (target.weight * (layout.slots.unit >= objective.config.given)).to(device)

        def answer(net: nn.Module) -> Net:
            def call(x: Tensor, level: Tensor) -> Tensor:
                given = torch.where(asked, torch.cat([x, seen[..., channels:-1], level], -1), seen)
                return objective.prediction.data(x, net(given, layout, actions).to(x), level, seen[..., channels:-1])

            return call

        def slots(levels: Tensor) -> Tensor:
            return levels.to(seen)[:, layout.row.to(device), None]

        return Ends(answer(model), answer(self.teacher.net.to(device)), seen[..., :channels], weight, slots)

    def levels(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform [..] -> the level of a point, and that of the same point one interval nearer to the data."""
        both = u, (u - 1 / self.config.intervals).clamp_min(0)
        k = self.config.shift
        return shift(both[0], k), shift(both[1], k)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write the student as a world directory (bfloat16)."""
        save(World(self.config.world, self.teacher.tokenizer, model), directory)
        start = locate(self.config.teacher) / START
        if start.is_file():
            (directory / START).write_bytes(start.read_bytes())


def consistency_loss(student: Net, teacher: Net, x: Tensor, level: Tensor, later: Tensor) -> Tensor:
    """Squared difference of the student's x0 from both ends of one Euler step of the teacher: [.., C] -> [..].

    student, teacher: (x, level) -> x0. level > later >= 0, [.., 1]. At level 0 the point itself is the answer.
    """
    with torch.no_grad():
        moved = x + (later - level) * (x - teacher(x, level)) / level
        wanted = torch.where(later > 0, student(moved, later), moved)
    error = student(x, level) - wanted
    return error.to(torch.promote_types(error.dtype, torch.float32)).square().mean(-1)
