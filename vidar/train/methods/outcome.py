"""Training of a world's reward and termination head on recorded play, with noise on the latents as in dreams."""

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
    """Data with a scale of its rewards."""

    reward_scale: float


class OutcomeConfig(Config):
    """world: directory or name of the trained world. head: config of the head that is trained.

    noise: maximum standard deviation of the noise on the latents, in units of their own; each step draws it uniformly
    below this. Choice: 0.3, because latents of dreams have errors that differ from frame to frame.
    """

    world: str
    head: OutcomeNetConfig
    noise: float = Field(default=0.3, ge=0)

    def build(self) -> Outcome:
        """The method."""
        return Outcome(self)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`. The head must fit the world."""
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
    """The method: `step` computes the loss on recorded steps; `export` writes a copy of the world with the head."""

    def __init__(self, config: OutcomeConfig) -> None:
        self.config = config

    def build_model(self) -> OutcomeNet:
        """The head. Raises UsageError if it does not fit the world."""
        load_world_config(locate(self.config.world)).check_outcome(self.config.head)
        return self.config.head.build()

    def calibrate(self, model: OutcomeNet, data: Scaled) -> None:
        """Set the scale of the head's rewards from the data."""
        model.scale.fill_(data.reward_scale)

    def step(self, model: OutcomeNet, batch: OutcomeBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Squared error of the scaled reward plus cross-entropy of termination, each over the steps with known values.

        Choice: squared error, so that the head predicts the mean reward and a sum of rewards is right on average; no
        class weights, so that the output is a true probability of termination.
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
        """Write a copy of the world directory with this head."""
        add_outcome(locate(self.config.world), model, directory)


def worn(codes: Tensor, most: float, rngs: Sequence[Rng]) -> Tensor:
    """Codes [B, ...] with Gaussian noise, whose deviation is uniform in [0, most] per row; one Rng per row."""
    levels = torch.stack([most * rng.uniform("outcome_level") for rng in rngs])
    noise = torch.stack([rng.normal("outcome_noise", shape=codes.shape[1:]) for rng in rngs])
    return codes + (levels.reshape(-1, *[1] * (codes.ndim - 1)) * noise).to(codes)
