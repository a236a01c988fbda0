"""Self-forcing: a student is trained on its own rollouts, with the decode loop and KV cache of play.

Huang et al., "Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion", 2025, algorithm 1. A unit
ends with the x0 prediction of the exit step e, which is drawn for each batch and equal for all units; only that call
records gradients. Commits are separate calls without gradients, so no gradient flows from a frame to earlier frames,
and the graph has one call per unit, whatever the number of steps.

    unit 0   e = 1:   step 0, step 1 *, commit        * gradients
    unit 1                                      step 0, step 1 *, commit
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidar.cache.list import ListState
from vidar.conditioning.action import Actions
from vidar.conditioning.net import WorldNet
from vidar.core.decode import Decoder
from vidar.core.step import Step, by_waves
from vidar.objectives.flow import Flow, InFlight
from vidar.objectives.rows import once, place, slot_tables
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.adversary import Student
from vidar.train.methods.distillation import DistillationConfig, Distilled
from vidar.train.methods.distribution_matching import MatchingConfig
from vidar.train.methods.noised import Noised
from vidar.train.methods.world import seen_alike
from vidar.train.ranks import ALONE, Ranks
from vidar.types import MEMORY, QUERY, Loss, Pass


class SelfForcingConfig(DistillationConfig):
    """context: number of given frames at the start of a clip; the others are generated under the recorded actions.

    matching: distribution matching (DMD), the loss of the paper. None: the squared error to the recorded frames, which
    pulls towards the mean of the possible futures. The adversary, if there is one, is added to either loss; SiD and the
    GAN of the paper are not implemented.

    Choice: the scores come from the teacher's own causal network, which sees each frame after the student's earlier
    frames, instead of a larger bidirectional network that sees the whole noisy clip. If every frame has the right
    distribution given every context, the clip has the right distribution.
    """

    context: int = Field(default=4, ge=1)
    matching: MatchingConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> SelfForcingConfig:
        if self.context >= self.clip_frames or self.context % self.world.order.unit_frames:
            raise ValueError(f"context {self.context} must be whole units and shorter than {self.clip_frames} frames")
        if self.own_context is not None:
            raise ValueError("own_context: all context is already the student's own; leave it out")
        return self

    def build(self) -> SelfForcing:
        """The method. Raises UsageError if the student's stepper cannot play students."""
        return SelfForcing(self)


class EarlyExit:
    """A flow whose units leave with the model's x0 at call `last`, and do not walk on to level 0."""

    def __init__(self, flow: Flow, last: int) -> None:
        self.flow, self.last, self.given, self.needs = flow, last, flow.given, flow.needs
        self.input_width, self.output_width = flow.input_width, flow.output_width
        self.passes: tuple[Pass, ...] = (*((QUERY, i) for i in range(last + 1)), (MEMORY, None))
        self.start, self.inputs, self.finish, self.memory = flow.start, flow.inputs, flow.finish, flow.memory
        self.latents, self.prepare, self.loss = flow.latents, flow.prepare, flow.loss

    def update(self, unit: int, x: InFlight, out: Tensor, step: int, rng: Rng) -> InFlight:
        """A step of the flow; at call `last`, the estimate of x0."""
        if step < self.last:
            return self.flow.update(unit, x, out, step, rng)
        return x._replace(x=self.flow.estimate(self.flow.inputs(unit, x, step)[None], out[None])[0])


def rollout(decoder: Decoder, steps: Iterable[Step], state: ListState, last: int) -> dict[tuple[int, int], Tensor]:
    """Codes [n, C] by (batch row, unit), with gradients only from the calls that contain refinement step `last`.

    Later units see detached codes.
    """
    made: dict[tuple[int, int], Tensor] = {}
    for step in steps:
        records = any(row.step == last and row.role == QUERY for row in step.rows)
        with torch.set_grad_enabled(records and torch.is_grad_enabled()):
            emitted = decoder.step(step, state)
        made.update({(b, unit): code for b, unit, code in emitted})
        for row in state.rows:
            row.codes = {unit: code.detach() for unit, code in row.codes.items()}
            row.outs = {unit: out.detach() for unit, out in row.outs.items()}
    return made


class SelfForcing(Distilled):
    """`step` computes the loss on latent clips; `export` writes the student with the tokenizer of its teacher."""

    def __init__(self, config: SelfForcingConfig) -> None:
        self.config = config
        super().__init__(config)
        clips = self.pair.clips
        self.order, self.grid, self.flow = clips.order, clips.grid, clips.flow
        units = range(self.order.num_units or 0)
        known = config.context * (self.grid.num_sites or 0) // config.clip_frames
        self.given = [unit for unit in units if int(self.grid.sites(unit).max()) < known]
        self.new = [unit for unit in units if unit not in self.given]
        self.sites = torch.cat([self.grid.sites(unit) for unit in self.new])
        self.matching = None if config.matching is None else config.matching.build()

    def build_model(self) -> Student:
        """The student, which starts with the teacher's weights, with adversary and critic if the config has them."""
        return self.pair.judged(None if self.matching is None else self.pair.copy())

    def step(self, model: Student, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """The loss on a batch of latent clips, with one Rng per clip.

        Scores and adversary get the conditions of the rollout: the same actions, hidden or not, and the same noise.
        """
        rngs = [rng.kept("hidden_actions", "start") for rng in seen_alike(rngs)]
        actions = self.pair.clips.config.told(batch, rngs)
        codes = self.pair.clips.spread(batch.codes).to(self.flow.dtype)
        due = self.matching is None or self.matching.due(model.steps)
        with torch.set_grad_enabled(due and torch.is_grad_enabled()):
            made = self.dream(model.net, codes, actions, rngs, self.exit(model.steps, rngs))
            error = (made - codes[:, self._dreamed(codes.device)[0]]).square().mean()
        terms = self._matched(model, codes, made, actions, rngs, due) or {"frames": error}
        terms |= self._judged(model, batch, codes, made, rngs)
        model.steps += int(model.training)
        known = {"frames": error, **terms}
        return Loss(sum(terms.values(), error.new_zeros(())), {name: value.detach() for name, value in known.items()})

    def exit(self, steps: Tensor, rngs: Sequence[Rng]) -> int:
        """The exit call of this training step, equal for all units, clips and ranks."""
        return int(len(self.flow.calls) * float(Rng(rngs[0].seed).uniform("exit", int(steps))))

    def dream(self, net: WorldNet, codes: Tensor, actions: Actions, rngs: Sequence[Rng], last: int) -> Tensor:
        """The new frames after the given ones, by leaving at call `last`: codes [B, N, C] -> [B, N', C], `sites`."""
        objective = EarlyExit(self.flow.on(codes.device), last)
        state = ListState.create(list(self.order.relations), len(codes), detach=True)
        for unit in self.given:
            state.give(unit, codes[:, place(self.grid.sites(unit), codes.device)].detach())

        def model(inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
            return net(inputs, layout, cond, state).to(self.flow.dtype)

        grids = [self.grid] * len(codes)
        decoder = Decoder(model, self.order, grids, objective, rngs, self.flow.given, lambda layout: actions)
        steps = list(by_waves(self.order, objective.passes, self.given))
        made = rollout(decoder, steps[:-1], state, last)  # no unit reads the last commit
        return torch.cat([torch.stack([made[b, unit] for b in range(len(codes))]) for unit in self.new], 1)

    def seen(self, codes: Tensor, actions: Actions, rngs: Sequence[Rng]) -> Noised:
        """Clips [B, N, C] as inputs of score networks: every new frame after the context that the student had.

        The context consists of the student's own frames and the given frames, with the noise and level of context in
        play.
        """
        layout, codes = self.pair.clips.layout, codes.detach()
        new = torch.isin(layout.row_unit[0], torch.tensor(self.new))
        level = self.flow.context.level(0, rngs[0], True)
        levels = torch.where(new, 1.0, level).expand(len(codes), -1)
        seen, target, _ = self.flow.prepare(codes, layout, rngs, play=True, levels=levels)
        weight = target.weight * self._dreamed(codes.device)[1]
        clean = codes[:, slot_tables(layout, codes.device).site]
        return Noised(self.pair.clips, seen, weight[..., None] > 0, clean, weight, actions)

    def _dreamed(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The sites of the new frames, long [N'], and whether a slot belongs to them, bool [S], on a device."""
        layout = self.pair.clips.layout
        slots = torch.isin(layout.slots.unit[0], torch.tensor(self.new))
        return once(layout, f"dreamed {device}", lambda: (self.sites.to(device), slots.to(device)))

    def _matched(
        self, model: Student, codes: Tensor, made: Tensor, actions: Actions, rngs: Sequence[Rng], due: bool
    ) -> dict[str, Tensor]:
        """The losses of distribution matching on the new frames; empty without it."""
        if self.matching is None or model.critic is None:
            return {}
        whole = codes.index_copy(1, self._dreamed(codes.device)[0], made)
        made = whole[:, slot_tables(self.pair.clips.layout, codes.device).site]
        clips = self.seen(whole, actions, rngs)
        return self.matching.terms(clips, made, self.teacher.net, model.critic, rngs, due)

    def _judged(
        self, model: Student, batch: LatentBatch, codes: Tensor, made: Tensor, rngs: Sequence[Rng]
    ) -> dict[str, Tensor]:
        """The adversarial losses on the new frames. Choice: each frame is judged after the true earlier frames."""
        if model.judge is None:
            return {}
        levels = torch.ones(len(codes), self.pair.clips.layout.num_rows)
        clips = self.pair.noised(model.net, batch, rngs, levels)
        sites, dreamed = self._dreamed(codes.device)
        whole = codes.index_copy(1, sites, made)[:, slot_tables(self.pair.clips.layout, codes.device).site]
        return self.pair.adversarial(model, replace(clips, weight=clips.weight * dreamed), whole, rngs)
