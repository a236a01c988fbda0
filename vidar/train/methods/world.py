"""Training of a world on latent clips: TWIN (teacher forcing, two copies) or SINGLE (diffusion forcing, one copy)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.config import untold
from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.core.layout import Layout, compile_layout
from vidar.core.objective import Objective
from vidar.core.step import Row, single, twin
from vidar.core.system import System
from vidar.nn.asked import asking
from vidar.objectives.flow import Flow
from vidar.objectives.rows import slot_tables
from vidar.objectives.weights import EvenWeightConfig, WeightConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.latent_clips import LearnsWorldConfig
from vidar.train.methods.rows import RowsConfig
from vidar.train.methods.supervised import Supervised
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss


class TwinConfig(RowsConfig):
    """Every unit twice: as what later units see, and as what is asked."""

    def rows(self, units: int) -> tuple[Row, ...]:
        """Training rows."""
        return twin(range(units))


class SingleConfig(RowsConfig):
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


class TrainWorldConfig(LearnsWorldConfig):
    """stream: the rows of a clip. weight: of an answer in the loss, by its level.

    guidance: w of classifier-free guidance by the actions that the answers learn, so that play needs no second answer
    for it (model-guidance, Tang et al., "Diffusion Models without Classifier-free Guidance", 2025); 1: none. To the
    target is added (1 - 1 / w) (cond - none) of the model's own answers: where that is learned, cond = target + (w - 1)
    (target - none).
    """

    stream: RowsConfig = TwinConfig()
    clip_frames: int = Field(ge=2)
    own_context: OwnContextConfig | None = None
    guidance: float = Field(default=1.0, ge=1)
    weight: WeightConfig = EvenWeightConfig()

    def build(self) -> Supervised[Any]:
        """The method."""
        return TrainWorld(self)

    def length(self) -> int:
        """Frames of a clip."""
        return self.clip_frames

    def layout(self, system: System[Objective]) -> Layout:
        """See `SupervisedConfig`."""
        rows = self.stream.rows(system.order.num_units or 0)
        return asking(compile_layout(rows, system.order, [system.grid]))


class TrainWorld(Supervised[TrainWorldConfig]):
    """Supervised, with what a model of rectified flow may see and be asked besides."""

    def __init__(self, config: TrainWorldConfig):
        super().__init__(config)
        self.weight = config.weight.build()
        if config.own_context is not None or config.guidance > 1 or self.weight is not None:
            config.world.flow  # noqa: B018  # says so where the world is none of rectified flow

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        codes, actions, rngs = self.spread(batch.codes), self.config.told(batch, rngs), seen_alike(rngs)
        context = self.own_context(model, codes, actions, rngs, ranks)
        seen, target, keep = self.objective.prepare(codes, self.layout, rngs, context=context)
        layout = self.layout.with_keep(keep)
        out = model(seen, layout, actions)
        if self.config.guidance > 1:
            hidden, value = untold(actions), target.value
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
    def own_context(
        self, model: WorldNet, codes: Tensor, actions: Any, rngs: Sequence[Rng], ranks: Ranks = ALONE
    ) -> Tensor | None:
        """Codes [B, N, C] as later frames see them, or None: as they are (`OwnContextConfig`).

        The first clip draws whether, and how many generations: on all ranks that of rank 0.
        """
        own = self.config.own_context
        if own is None or ranks.agree(float(rngs[0].uniform("own_context"))) >= own.share:
            return None
        made, answered = codes, [rng.renamed(start="own_start").kept("start") for rng in rngs]
        for _ in range(1 + int(own.generations * ranks.agree(float(rngs[0].uniform("own_generations"))))):
            made = self._answers(model, codes, made, actions, answered)
        factor = own.most * torch.stack([rng.uniform("own_factor") for rng in rngs]).to(made).reshape(-1, 1, 1)
        return codes.to(made) + factor * (made - codes.to(made))

    def _answers(self, model: WorldNet, codes: Tensor, context: Tensor, actions: Any, rngs: Sequence[Rng]) -> Tensor:
        """The model's answer to pure noise for every frame but the first, which stays; all codes [B, N, C]."""
        noise = torch.ones(len(codes), self.layout.num_rows)
        seen, _, keep = self.objective.prepare(codes, self.layout, rngs, levels=noise, context=context)
        out = model(seen, self.layout.with_keep(keep), actions)
        slots, answers = slot_tables(self.layout, seen.device), self.flow.estimate(seen, out)
        later = slots.asked[slots.unit[slots.asked] >= len(self.system.frames.units(0))]
        return codes.to(seen).index_copy(1, slots.site[later], answers[:, later])


def seen_alike(rngs: Sequence[Rng]) -> list[Rng]:
    """Draws in which what later frames see of a frame has one level and one noise in a step, whoever asks for it."""
    return [rng.kept("context", "context_level") for rng in rngs]
