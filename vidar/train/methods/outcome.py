"""Training of a world's head of reward and end on recorded play, its latents noisy as those of a dream are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.model.load import add_outcome, load_world_config, locate
from vidar.nn.outcome import OutcomeNet, OutcomeNetConfig
from vidar.rng import Rng
from vidar.train.checks import DryRun
from vidar.train.outcomes import OutcomeBatch
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss


class Scaled(Protocol):
    """Data that knows the unit of its rewards."""

    reward_scale: float


class OutcomeConfig(Config):
    """world: directory or name of the trained one. head: what is trained.

    noise: the most that is added to the latents, in deviations of the latent; of a step it is uniform below it.
    Choice: 0.3. The latents of a dream are off, and how far differs from frame to frame.
    """

    world: str
    head: OutcomeNetConfig
    noise: float = Field(default=0.3, ge=0)

    def build(self) -> Outcome:
        """The method."""
        return Outcome(self)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`: the head fits the world."""
        load_world_config(locate(self.world)).check_outcome(self.head)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`."""
        head = self.head
        with torch.device("meta"):
            model = head.build()
            codes = torch.empty(data.batch, 2, head.rows * head.columns, head.channels)
            actions = torch.empty(data.batch, head.spec.width)
        return DryRun(model, lambda: model(codes, actions))


class Outcome:
    """`step` is one loss on recorded steps; `export` writes the world again, with the head in it."""

    def __init__(self, config: OutcomeConfig) -> None:
        self.config = config

    def build_model(self) -> OutcomeNet:
        """The head. Raises UsageError where it does not fit the world."""
        load_world_config(locate(self.config.world)).check_outcome(self.config.head)
        return self.config.head.build()

    def calibrate(self, model: OutcomeNet, data: Scaled) -> None:
        """The head answers in units of the rewards of its data."""
        model.scale.fill_(data.reward_scale)

    def step(self, model: OutcomeNet, batch: OutcomeBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Squared error of the scaled reward plus cross-entropy of the end, each over the steps where it is known.

        Choice: squared error, so that the answer is the mean of the rewards and a sum of them is right on average; no
        class weights, so that the probability of an end is one.
        """
        codes = worn(batch.codes.float(), self.config.noise, rngs)
        reward, logit = model(codes, batch.actions)
        errors = {
            "reward": ((reward - batch.rewards.nan_to_num()) / model.scale).square(),
            "end": F.binary_cross_entropy_with_logits(logit, batch.ended.nan_to_num(), reduction="none"),
        }
        known = {"reward": ~batch.rewards.isnan(), "end": ~batch.ended.isnan()}
        parts = {name: error[known[name]].sum() / known[name].sum().clamp_min(1) for name, error in errors.items()}
        return Loss(parts["reward"] + parts["end"], {name: part.detach() for name, part in parts.items()})

    def export(self, model: OutcomeNet, directory: Path) -> None:
        """Write the world directory with this head; every other file is a copy."""
        add_outcome(locate(self.config.world), model, directory)


def worn(codes: Tensor, most: float, rngs: Sequence[Rng]) -> Tensor:
    """Codes [B, ...] with Gaussian noise, its deviation for each row uniform in [0, most]; one Rng per row."""
    levels = torch.stack([most * rng.uniform("outcome_level") for rng in rngs])
    noise = torch.stack([rng.normal("outcome_noise", shape=codes.shape[1:]) for rng in rngs])
    return codes + (levels.reshape(-1, *[1] * (codes.ndim - 1)) * noise).to(codes)
