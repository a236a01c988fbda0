"""Teacher and student: the base of all distillation methods, whatever their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from vidar.conditioning.action import Actions
from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.model.load import load, locate, save
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.model.starts import copy_starts
from vidar.rng import Rng
from vidar.train.checks import DryRun
from vidar.train.latents import LatentBatch
from vidar.train.methods.adversary import AdversaryConfig, Student, hinge_terms, product
from vidar.train.methods.noised import Noised, noised
from vidar.train.methods.rows import RowsConfig
from vidar.train.methods.supervised import network
from vidar.train.methods.world import (
    OwnContextConfig,
    TrainWorld,
    TrainWorldConfig,
    TwinConfig,
)
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss, UsageError


class DistillationConfig(Config):
    """teacher: directory or name of a world with the same network. world: config of the student.

    The `steps` of the student are those of play. Between them it receives fresh noise (RenoiseConfig, as in consistency
    models) or keeps its initial noise (EulerConfig, AdamsBashforthConfig). start: directory of a student whose training
    is continued; None: the student starts with the teacher's weights.
    """

    teacher: str
    start: str | None = None
    world: VideoModelConfig
    stream: RowsConfig = TwinConfig()
    clip_frames: int = Field(ge=2)
    own_context: OwnContextConfig | None = None
    adversary: AdversaryConfig | None = None

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`.

        Runs the parts of a step that keep a graph: one forward pass of student and critic each and, through the
        teacher, the adversary.
        """
        config: Any = self.replace(start=None)
        built, world, batch = config.build(), self.world, data.batch
        pair: Distillation = built.pair
        with torch.device("meta"):
            tokenizer, known = world.tokenizer.build(), world.net.build().requires_grad_(False)
        pair.teacher = VideoModel(world, tokenizer, known)  # instead of the one read from a folder
        with torch.device("meta"):
            model: Any = built.build_model()
        model = model if isinstance(model, Student) else Student(model, None)
        layout, (height, width) = pair.clips.layout, world.sites
        codes = torch.zeros(batch, self.clip_frames, height * width, world.channels)
        actions, unknown = (
            torch.zeros(batch, self.clip_frames, world.spec.width),
            torch.zeros(codes.shape[:2]).bool(),
        )
        clips = LatentBatch(codes, actions, unknown, torch.arange(batch), [""] * batch)
        rngs = [Rng(0, number) for number in range(batch)]
        levels = torch.full((batch, layout.num_rows), 0.5)
        real = noised(pair.clips, clips, rngs, levels)
        told = Actions(real.actions.values.to("meta"), real.actions.unknown.to("meta"))
        # weight stays on the CPU, because it selects the judged slots
        moved = {name: getattr(real, name).to("meta") for name in ("seen", "asked", "clean")}
        seen = replace(real, actions=told, **moved)

        def step() -> Any:
            made = seen.data(model.net)(seen.x, seen.slots(levels))
            followed = None if model.critic is None else seen.data(model.critic)(seen.x, seen.slots(levels))
            return made, followed, pair.adversarial(model, seen, made, rngs)

        return DryRun(model, step, nn.ModuleList([known, tokenizer]))


class Distillation:
    """The frozen teacher, the student that starts with its weights, noisy clips for both, and the adversarial term."""

    def __init__(self, config: DistillationConfig) -> None:
        if not config.world.flow.stepper.plays_students:
            raise UsageError(
                "method.world.objective.stepper: a student plays with one call per step, "
                "by RenoiseConfig, EulerConfig or AdamsBashforthConfig"
            )
        backbone, adversary = config.world.net.backbone, config.adversary
        if adversary is not None and not all(0 <= block < backbone.depth for block in adversary.blocks):
            raise UsageError(f"method.adversary.blocks: {adversary.blocks} must lie in 0 .. {backbone.depth - 1}")
        if adversary is not None and adversary.width != backbone.width:
            raise UsageError(f"method.adversary.width is {adversary.width}, the teacher's is {backbone.width}")
        shared = {name: getattr(config, name) for name in ("world", "stream", "clip_frames", "own_context")}
        self.config = config
        self.clips = TrainWorld(TrainWorldConfig(tokenizer="", p_unknown=0.05, **shared))

    @cached_property
    def teacher(self) -> VideoModel:
        """The teacher in float32, frozen, read once. Raises UsageError if its network differs from the student's."""
        known = load(self.config.teacher, dtype=torch.float32)
        if known.config.net != self.config.world.net:
            raise UsageError(f"{self.config.teacher}: its network differs from method.world.net; make them equal")
        known.net.requires_grad_(False)
        return known

    def student(self) -> WorldNet:
        """A network with the weights of the teacher, or of the student in `start`."""
        if self.config.start is not None:
            return network(self.config.world.net, self.config.start)
        return self.copy()

    def copy(self) -> WorldNet:
        """A trainable network with the weights of the teacher."""
        net = self.config.world.net.build()
        net.load_state_dict(self.teacher.net.state_dict())
        return net

    def judged(self, critic: WorldNet | None = None) -> Student:
        """A student with a fresh adversary, if the config has one, and with the given critic."""
        adversary = self.config.adversary
        return Student(self.student(), None if adversary is None else adversary.build(), critic)

    def noised(
        self, net: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], levels: Tensor, ranks: Ranks = ALONE
    ) -> Noised:
        """The batch at levels [B, M], with self-generated context if the config has it."""
        return noised(self.clips, batch, rngs, levels, net, ranks)

    def regression(
        self, model: WorldNet | Student, clips: Noised, made: Tensor, wanted: Tensor, rngs: Sequence[Rng]
    ) -> Loss:
        """Squared error of predictions x0 [B, S, C] from their targets, plus the adversarial term if there is one."""
        total = (squared(made - wanted) * clips.weight).sum() / clips.weight.sum()
        parts = {"consistency": total}
        if isinstance(model, Student):
            parts |= self.adversarial(model, clips, made, rngs)
            total = sum(parts.values(), total.new_zeros(()))
            model.steps += int(model.training)
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def adversarial(self, model: Student, clips: Noised, made: Tensor, rngs: Sequence[Rng]) -> dict[str, Tensor]:
        """Adversarial losses on predictions x0 [B, S, C]: `gan` of the student (weighted), `adversary` of the heads.

        Returns an empty dict without an adversary.
        """
        config, judge, layout = self.config.adversary, model.judge, self.clips.layout
        if config is None or judge is None:
            return {}
        asked = torch.nonzero(clips.weight[0])[:, 0]
        drawn = torch.stack([rng.normal("judged_level", shape=(layout.num_rows,)) for rng in rngs])
        noise = torch.stack([rng.normal("judged_noise", shape=made.shape[1:]) for rng in rngs]).to(made)
        level = clips.slots(torch.sigmoid(config.mean + config.std * drawn))
        backbone, cond = self.teacher.net.backbone, self.teacher.net.condition(clips.actions, layout)

        def features(x: Tensor, level: Tensor) -> list[Tensor]:
            found = backbone.features(clips.inputs(x, level), layout, cond, config.blocks)
            return [part[:, asked] for part in found]

        gan, adversary = hinge_terms(judge, features, clips.clean, made, level, noise)
        weighted = config.lambda_at(model.steps) * gan
        return {"gan": weighted, "adversary": adversary}

    @torch.no_grad()
    def gap(self, net: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], levels: Sequence[float]) -> float:
        """Mean squared difference between the student's prediction from pure noise and the end of the teacher's path.

        levels: those of the teacher's Euler steps, from 1 down to 0.
        """
        rows = [torch.full((len(rngs), self.clips.layout.num_rows), level) for level in levels]
        clips = self.noised(net, batch, rngs, rows[0])
        student, teacher, x = clips.data(net), clips.data(self.teacher.net), clips.x
        for now, later in zip(map(clips.slots, rows), map(clips.slots, rows[1:])):
            x = x + (later - now) * (x - teacher(x, now)) / now
        error = (student(clips.x, clips.slots(rows[0])) - x).square().mean(-1)
        return float((error * clips.weight).sum() / clips.weight.sum())

    def export(self, net: WorldNet, directory: Path) -> None:
        """Write the student as a world directory (bfloat16), with the tokenizer of its teacher."""
        save(VideoModel(self.config.world, self.teacher.tokenizer, net), directory)
        copy_starts(locate(self.config.teacher), directory)


class Distilled:
    """Base of the distillation methods: `export` writes the student with the tokenizer of its teacher."""

    def __init__(self, config: DistillationConfig) -> None:
        self.pair = Distillation(config)

    @property
    def teacher(self) -> VideoModel:
        """See `Distillation.teacher`."""
        return self.pair.teacher

    def to(self, device: torch.device) -> None:
        """Move the teacher's network."""
        self.teacher.net.to(device)

    def build_model(self) -> WorldNet | Student:
        """The student, which starts with the teacher's weights, with an adversary if the config has one."""
        return self.pair.student() if self.pair.config.adversary is None else self.pair.judged()

    @property
    def origin(self) -> str:
        """See `vidar.train.fit.Continues`."""
        return self.pair.config.start or self.pair.config.teacher

    def export(self, model: WorldNet | Student, directory: Path) -> None:
        """Write the student as a world directory (bfloat16)."""
        self.pair.export(product(model), directory)


def squared(error: Tensor) -> Tensor:
    """Mean square over channels in float32 or wider, [.., C] -> [..]."""
    return error.to(torch.promote_types(error.dtype, torch.float32)).square().mean(-1)
