"""Training of a depth network on recorded play with its depth, on degraded pictures so that it also reads dreams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.data.index import Index
from vidar.data.loader import ClipBatch
from vidar.nn.depth import DepthNet, DepthNetConfig
from vidar.rng import Rng
from vidar.train.checks import DryRun, blank, check_extra, check_frames
from vidar.train.methods.inverse_dynamics import WearConfig, wear
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss

DEPTH = "depth"  # the extra that recorders write


class DepthConfig(Config):
    """model: config of the network. unit: map units of one level of the recorded depth; a level k stands for depths
    from k to k + 1 units (ViZDoom: 8). centre: weight of the distance to the middle of a level. wear: augmentation.
    """

    model: DepthNetConfig
    unit: float = Field(gt=0)
    centre: float = Field(default=0.1, ge=0)
    wear: WearConfig | None = WearConfig()

    def build(self) -> DepthTraining:
        """The method."""
        return DepthTraining(self)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`. The clips must bring the depth."""
        check_extra(data, DEPTH, "depth network")

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.ChecksData`. The frames must have the size of the network."""
        check_frames(data, index, self.model.height, self.model.width)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Runs the network on clips."""
        with torch.device("meta"):
            model = self.model.build()
        video = blank(data)
        return DryRun(model, None if video is None else lambda: model(video.flatten(0, 1)))


class DepthTraining:
    """Method `depth`. Every frame of a clip is a sample."""

    def __init__(self, config: DepthConfig) -> None:
        self.config = config

    def build_model(self) -> DepthNet:
        """The network with fresh weights."""
        return self.config.model.build()

    def step(self, model: DepthNet, batch: ClipBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Mean `interval_error` of log depth, with one Rng per clip; half of the clips are mirrored.

        parts: mean relative error to the middle of the recorded level.
        """
        video, level = mirrored(batch.video, batch.extras[DEPTH], rngs)
        if self.config.wear is not None:
            video = wear(video, self.config.wear, rngs)
        unit, found, level = self.config.unit, model(video.flatten(0, 1)), level.flatten(0, 1).float()
        loss = interval_error(found, level * unit, (level + 1) * unit, self.config.centre).mean()
        middle = (level + 0.5) * unit
        return Loss(loss, {"relative": ((found - middle).abs() / middle).mean().detach()})

    def export(self, model: DepthNet, directory: Path) -> None:
        """Write the model directory (bfloat16)."""
        model.save_pretrained(directory, torch.bfloat16)


def interval_error(found: Tensor, low: Tensor, high: Tensor, centre: float) -> Tensor:
    """How far log depth is outside [low, high], plus `centre` times its distance to the logarithm of their mean.

    Recorded depth is rounded down, so every depth within a level is equally true; an error to its middle alone would
    teach steps. Depths below half of the first level are all taken as that.
    """
    least = (high - low) / 2
    log, middle = found.log(), ((low + high) / 2).log()
    outside = (low.maximum(least).log() - log).relu() + (log - high.log()).relu()
    return outside + centre * (log - middle).abs()


def mirrored(video: Tensor, depth: Tensor, rngs: Sequence[Rng]) -> tuple[Tensor, Tensor]:
    """Clips [B, T, H, W, 3] and depths [B, T, H, W], half of the clips mirrored."""
    flips = torch.tensor([float(rng.uniform("mirror")) < 0.5 for rng in rngs], device=video.device)
    video = torch.where(flips.reshape(-1, 1, 1, 1, 1), video.flip(3), video)
    return video, torch.where(flips.reshape(-1, 1, 1, 1), depth.flip(3), depth)
