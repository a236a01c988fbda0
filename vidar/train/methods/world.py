"""Training of a world on latent clips: TWIN (teacher forcing, two copies) or SINGLE (diffusion forcing, one copy)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.core.layout import Layout, compile_layout
from vidar.core.step import Row, single, twin
from vidar.data.video import write_video
from vidar.model.load import load, save
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.nn.asked import asking
from vidar.nn.pretrained import load_component
from vidar.objectives.flow import Flow
from vidar.objectives.rows import slot_tables
from vidar.objectives.weights import BellWeightConfig, EvenWeightConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.latent_clips import LearnsWorldConfig
from vidar.train.methods.plan_rows import PlanTwinConfig
from vidar.types import Loss, UsageError


class TwinConfig(Config):
    """Every unit twice: as what later units see, and as what is asked."""

    def rows(self, units: int) -> tuple[Row, ...]:
        """Training rows."""
        return twin(range(units))


class SingleConfig(Config):
    """Every unit once, each with its own level."""

    def rows(self, units: int) -> tuple[Row, ...]:
        """Training rows."""
        return single(range(units))


class OwnContextConfig(Config):
    """Drift medicine: context as the model itself would have made it.

    For a share of the batches the model first answers every frame from pure noise, without gradients; in the step that
    follows, what later frames see of a frame is moved from the truth towards that answer and beyond, by a factor drawn
    uniformly from [0, most] for each clip. Targets stay true, so the model learns to come back. Choice: answers instead
    of a rollout, their error stretched (most > 1) because errors add up in play; LongLive 2.0 recycles errors the same
    way, from a buffer (causal-diffusion 11.3).

    generations: answer k sees the answers k - 1 as its context, all frames at once (a Jacobi iteration: frame t of it
    is what a rollout of one call a frame shows after min(k, t) frames). Their number is drawn for each batch. All
    answer the same noise, which is not that of what is asked.
    """

    share: float = Field(default=0.5, ge=0, le=1)
    most: float = Field(default=1.5, ge=0)
    generations: int = Field(default=1, ge=1)


class WorldMethod(Protocol):
    """What a method does that trains a world on latent clips."""

    layout: Layout

    def build_model(self) -> WorldNet:
        """The network that is trained."""
        ...

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        ...

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write a world directory."""
        ...

    def sample(self, model: WorldNet, batch: LatentBatch, path: Path) -> None:
        """Write what it dreams."""
        ...


class TrainWorldConfig(LearnsWorldConfig):
    """tokenizer: directory of the trained one. start: directory of a world whose network is gone on from.

    p_unknown: share of clips whose actions are hidden from the model. guidance: w of classifier-free guidance by the
    actions that the answers learn, so that play needs no second answer for it (model-guidance, Tang et al., "Diffusion
    Models without Classifier-free Guidance", 2025); 1: none. To the target is added (1 - 1 / w) (cond - none) of the
    model's own answers: where that is learned, cond = target + (w - 1) (target - none). weight: of an
    answer in the loss, by its level.
    """

    stream: TwinConfig | SingleConfig | PlanTwinConfig = TwinConfig()
    clip_frames: int = Field(ge=2)
    p_unknown: float = Field(default=0.05, ge=0, le=1)
    own_context: OwnContextConfig | None = None
    guidance: float = Field(default=1.0, ge=1)
    weight: EvenWeightConfig | BellWeightConfig = EvenWeightConfig()

    def build(self) -> WorldMethod:
        """The method."""
        return TrainWorld(self)

    def length(self) -> int:
        """Frames of a clip."""
        return self.clip_frames


class TrainWorld:
    """`step` is one loss on latent clips; `export` writes a world directory."""

    def __init__(self, config: TrainWorldConfig):
        self.config = config
        self.system = config.world.system(config.clip_frames)
        self.order, self.grid, self.objective = self.system.order, self.system.grid, self.system.objective
        rows = config.stream.rows(self.order.num_units or 0)
        self.weight = None if isinstance(config.weight, EvenWeightConfig) else config.weight.build()
        if config.own_context is not None or config.guidance > 1 or self.weight is not None:
            config.world.flow  # noqa: B018  # says so where the world is none of rectified flow
        self.layout: Layout = asking(compile_layout(rows, self.order, [self.grid]))

    def build_model(self) -> WorldNet:
        """The network, fresh or as `start` has it. Raises UsageError where that is another network."""
        return network(self.config.world, self.config.start)

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        codes = self.system.frames.spread(batch.codes).flatten(1, 2)
        actions = told(batch, rngs, self.config.p_unknown)
        rngs = seen_alike(rngs)
        context = self.own_context(model, codes, actions, rngs)
        seen, target, keep = self.objective.prepare(codes, self.layout, rngs, context=context)
        layout = self.layout.with_keep(keep)
        out, value = model(seen, layout, actions), target.value
        if self.config.guidance > 1:
            hidden = replace(actions, unknown=torch.ones_like(actions.unknown))
            with torch.no_grad():
                value = value + (1 - 1 / self.config.guidance) * (out.to(value) - model(seen, layout, hidden).to(value))
        target = replace(target, value=value)
        if self.weight is None:
            return self.objective.loss(out, target)
        return self.flow.loss(out, target, self.weight(seen[..., -1]))

    @property
    def flow(self) -> Flow:
        """The objective of a world of rectified flow."""
        return cast(Flow, self.objective)

    @torch.no_grad()
    def own_context(self, model: WorldNet, codes: Tensor, actions: Actions, rngs: Sequence[Rng]) -> Tensor | None:
        """Codes [B, N, C] as later frames see them, or None: as they are (`OwnContextConfig`)."""
        own = self.config.own_context
        if own is None or float(rngs[0].uniform("own_context")) >= own.share:
            return None
        made, answered = codes, [rng.renamed(start="own_start").kept("start") for rng in rngs]
        for _ in range(1 + int(own.generations * float(rngs[0].uniform("own_generations")))):
            made = self._answers(model, codes, made, actions, answered)
        factor = own.most * torch.stack([rng.uniform("own_factor") for rng in rngs]).to(made).reshape(-1, 1, 1)
        return codes.to(made) + factor * (made - codes.to(made))

    def _answers(
        self, model: WorldNet, codes: Tensor, context: Tensor, actions: Actions, rngs: Sequence[Rng]
    ) -> Tensor:
        """The model's answer to pure noise for every frame but the first, which stays; all codes [B, N, C]."""
        noise = torch.ones(len(codes), self.layout.num_rows)
        seen, _, keep = self.objective.prepare(codes, self.layout, rngs, levels=noise, context=context)
        out = model(seen, self.layout.with_keep(keep), actions)
        slots, answers = slot_tables(self.layout, seen.device), self.flow.estimate(seen, out)
        later = slots.asked[slots.unit[slots.asked] >= len(self.system.frames.units(0))]
        return codes.to(seen).index_copy(1, slots.site[later], answers[:, later])

    def world(self, model: WorldNet) -> VideoModel:
        """A world of this network and the frozen tokenizer."""
        return VideoModel(self.config.world, load_component(self.config.tokenizer), model)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a world directory (bfloat16)."""
        save(self.world(model), directory)

    @torch.no_grad()
    def sample(self, model: WorldNet, batch: LatentBatch, path: Path) -> None:
        """Write PATH.mp4, see `show`."""
        show(self.world(model), batch.codes[:SHOWN].float(), batch.actions[:SHOWN], path)


def told(batch: LatentBatch, rngs: Sequence[Rng], p_unknown: float) -> Actions:
    """The actions of clips, for a share of them hidden from the model; one Rng per clip."""
    hidden = batch.unknown.new_tensor([float(rng.uniform("hidden_actions")) < p_unknown for rng in rngs])
    return Actions(batch.actions, batch.unknown | hidden[:, None])


def seen_alike(rngs: Sequence[Rng]) -> list[Rng]:
    """Draws in which what later frames see of a frame has one level and one noise in a step, whoever asks for it."""
    return [rng.kept("context", "context_level") for rng in rngs]


SHOWN = 4  # clips of a sample


def network(world: VideoModelConfig, start: str | None) -> WorldNet:
    """A world's network, fresh or as the world in directory `start` has it.

    Raises UsageError where that is another network.
    """
    net = world.net.build()
    if start is not None:
        known = load(start, dtype=torch.float32)
        if known.config.net != world.net:
            raise UsageError(f"{start}: its network differs from method.world.net; start from one of the same size")
        net.load_state_dict(known.net.state_dict())
    return net


def show(world: VideoModel, codes: Tensor, actions: Tensor, path: Path) -> None:
    """Write PATH.mp4: clips of the data, below them the world's own after a quarter of each as context.

    codes [B, T, n, C] of frames, as `VideoModel.encode` gives them; actions [B, T, A].
    """
    known = max(1, codes.shape[1] // 4)
    steps = iter(actions[:, known:].unbind(1))
    made = list(world.codes(codes[:, :known], steps, actions[:, :known]))
    dreamed = torch.cat([codes[:, :known], torch.stack(made, 1)], 1)
    rows = [stacked(world.decode(part)[0]) for part in (codes, dreamed)]
    write_video(path.with_suffix(".mp4"), torch.cat(rows, 1).numpy(), world.config.fps)


def stacked(video: Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3] -> [T, H, B W, 3]."""
    return torch.cat(list(video), dim=2)
