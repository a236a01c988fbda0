"""Training of a world on latent clips: TWIN (teacher forcing, two copies) or SINGLE (diffusion forcing, one copy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from vidar.train.methods.worn import WornContextConfig, worn
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss


class TwinConfig(RowsConfig):
    """Teacher forcing: every unit occurs twice, clean (seen by later units) and noisy (with a loss)."""

    def rows(self, units: int) -> tuple[Row, ...]:
        """Training rows."""
        return twin(range(units))


class SingleConfig(RowsConfig):
    """Diffusion forcing: every unit occurs once, each at its own level."""

    def rows(self, units: int) -> tuple[Row, ...]:
        """Training rows."""
        return single(range(units))


class OwnContextConfig(Config):
    """Self-generated context against drift: later frames see the model's own predictions of earlier frames.

    For a share of the batches, the model first predicts every frame from pure noise, without gradients. In the training
    step, what later frames see of a frame is then moved from the truth towards that prediction and beyond it, by a
    factor drawn uniformly from [0, most] for each clip. The targets stay true, so the model learns to return to them.
    Choice: single predictions instead of a rollout, with their error enlarged (most > 1), because errors add up in
    play. LongLive 2.0 uses recycled errors in the same way, from a buffer.

    generations: prediction k has predictions k - 1 as its context, for all frames at once. This is a Jacobi iteration:
    its frame t is what a rollout with one call per frame shows after min(k, t) frames. The number of generations is
    drawn for each batch. All generations start from the same noise, which differs from the noise of the training rows.
    """

    share: float = Field(default=0.5, ge=0, le=1)
    most: float = Field(default=1.5, ge=0)
    generations: int = Field(default=1, ge=1)


class TrainWorldConfig(LearnsWorldConfig):
    """stream: the rows of a clip. weight: loss weight by level. own_context: self-generated context, or None. worn:
    wear of the context, or None.

    guidance: scale w of classifier-free guidance on the actions, which the model learns, so that play needs no second
    forward pass (model guidance, Tang et al., "Diffusion Models without Classifier-free Guidance", 2025); 1: none. The
    target becomes target + (1 - 1 / w) (cond - none), with the model's own outputs cond and none (actions hidden); at
    the optimum cond = target + (w - 1) (target - none).
    """

    stream: RowsConfig = TwinConfig()
    clip_frames: int = Field(ge=2)
    own_context: OwnContextConfig | None = None
    worn: WornContextConfig | None = None
    guidance: float = Field(default=1.0, ge=1)
    weight: WeightConfig = EvenWeightConfig()

    def build(self) -> Supervised[Any]:
        """The method."""
        return TrainWorld(self)

    def length(self) -> int:
        """Number of frames of a clip."""
        return self.clip_frames

    def layout(self, system: System[Objective]) -> Layout:
        """See `SupervisedConfig`."""
        rows = self.stream.rows(system.order.num_units or 0)
        return asking(compile_layout(rows, system.order, [system.grid]))


class TrainWorld(Supervised[TrainWorldConfig]):
    """Supervised training with the options of rectified flow: self-generated context, guidance, loss weights."""

    def __init__(self, config: TrainWorldConfig):
        super().__init__(config)
        self.weight = config.weight.build()
        if config.own_context is not None or config.guidance > 1 or self.weight is not None:
            config.world.flow  # noqa: B018  # raises UsageError unless the world is one of rectified flow

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """The loss on a batch of latent clips, with one Rng per clip."""
        codes, actions, rngs = self.spread(batch.codes), self.config.told(batch, rngs), seen_alike(rngs)
        known = batch.seen
        if self.config.worn is not None:
            known = worn(batch.codes if known is None else known, self.config.worn, self.config.world.patch, rngs)
        context = None if known is None else self.spread(known)
        shown = None if batch.views is None else self.spread(batch.views)
        context = self.own_context(model, codes, actions, rngs, ranks, context, shown)
        seen, target, keep = self.objective.prepare(codes, self.layout, rngs, context=context, **extra(shown))
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
        """The rectified-flow objective of the world."""
        return cast(Flow, self.objective)

    @torch.no_grad()
    def own_context(
        self,
        model: WorldNet,
        codes: Tensor,
        actions: Any,
        rngs: Sequence[Rng],
        ranks: Ranks = ALONE,
        context: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor | None:
        """Codes [B, N, C] as later frames see them (`OwnContextConfig`); None: the true codes.

        context: what they see without it; None: the true codes. shown: what a memory shows, [B, N, W]. The first clip
        of rank 0 draws, for all ranks, whether to use own context and how many generations.
        """
        own = self.config.own_context
        if own is None or ranks.agree(float(rngs[0].uniform("own_context"))) >= own.share:
            return context
        context = codes if context is None else context
        made, answered = context, [rng.renamed(start="own_start").kept("start") for rng in rngs]
        for _ in range(1 + int(own.generations * ranks.agree(float(rngs[0].uniform("own_generations"))))):
            made = self._answers(model, codes, made, actions, answered, shown)
        factor = own.most * torch.stack([rng.uniform("own_factor") for rng in rngs]).to(made).reshape(-1, 1, 1)
        return context.to(made) + factor * (made - context.to(made))

    def _answers(
        self,
        model: WorldNet,
        codes: Tensor,
        context: Tensor,
        actions: Any,
        rngs: Sequence[Rng],
        shown: Tensor | None = None,
    ) -> Tensor:
        """The model's answer to pure noise for every frame but the first, which the context shows; all [B, N, C]."""
        noise = torch.ones(len(codes), self.layout.num_rows)
        seen, _, keep = self.objective.prepare(codes, self.layout, rngs, levels=noise, context=context, **extra(shown))
        out = model(seen, self.layout.with_keep(keep), actions)
        slots, answers = slot_tables(self.layout, seen.device), self.flow.estimate(seen, out)
        later = slots.asked[slots.unit[slots.asked] >= len(self.system.frames.units(0))]
        return context.to(seen).index_copy(1, slots.site[later], answers[:, later])


def extra(shown: Tensor | None) -> Mapping[str, Any]:
    """The arguments of `prepare` about a memory: an objective that takes nothing from one need not know of it."""
    return {} if shown is None else {"shown": shown}


def seen_alike(rngs: Sequence[Rng]) -> list[Rng]:
    """Rngs that give what later frames see of a frame the same level and noise throughout one training step."""
    return [rng.kept("context", "context_level") for rng in rngs]
