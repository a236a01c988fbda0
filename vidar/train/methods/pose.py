"""Training of a pose network on recorded play with its true pose, on degraded pictures so that it also reads dreams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.data.index import Index
from vidar.data.loader import ClipBatch
from vidar.nn.pose import AXES, MIRRORED, PoseNet, PoseNetConfig, motion
from vidar.rng import Rng
from vidar.train.checks import DryRun, blank, check_extra, check_frames
from vidar.train.methods.inverse_dynamics import WearConfig, wear
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss

POSE = "pose"  # the extra that recorders write


class PoseConfig(Config):
    """model: config of the network. wear: augmentation; None: none. delta: where the Huber loss becomes linear, in the
    unit of each axis. doubt: weight of the loss of the expected error.
    """

    model: PoseNetConfig
    wear: WearConfig | None = WearConfig()
    delta: float = Field(default=0.5, gt=0)
    doubt: float = Field(default=0.02, ge=0)

    def build(self) -> PoseTraining:
        """The method."""
        return PoseTraining(self)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`. The clips must bring the pose."""
        check_extra(data, POSE, "pose network")

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.ChecksData`. The frames must have the size of the network."""
        check_frames(data, index, self.model.height, self.model.width)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Runs the network on clips."""
        with torch.device("meta"):
            model = self.model.build()
        video = blank(data)
        return DryRun(model, None if video is None else lambda: model(video))


class PoseTraining:
    """Method `pose`. Every step of a clip is a sample."""

    def __init__(self, config: PoseConfig) -> None:
        self.config = config

    def build_model(self) -> PoseNet:
        """The network with fresh weights."""
        return self.config.model.build()

    def step(self, model: PoseNet, batch: ClipBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Huber loss of the motion in the unit of each axis, plus the loss of the expected error; one Rng per clip.

        Half of the clips run backward and half are mirrored, so that no direction is usual. The expected error b of an
        error e is that of a Laplace distribution, |e| / b + log b. Choice: e is a constant there; where one likelihood
        teaches both, the network first learns that it does not know, and then hardly learns the motion. parts: mean
        absolute errors, and the loss of the expected ones.
        """
        video, true = either_way(batch.video, batch.extras[POSE], rngs)
        if self.config.wear is not None:
            video = wear(video, self.config.wear, rngs)
        read, expected = model(video)
        unit = read.new_tensor(self.config.model.scale)
        off, doubt = (read - true.to(read)) / unit, expected / unit
        size = off.detach().abs()
        told = (size / doubt + doubt.log()).mean()
        loss = F.huber_loss(off, torch.zeros_like(off), delta=self.config.delta)
        errors = dict(zip(AXES, (size * unit).mean((0, 1))))
        return Loss(loss + self.config.doubt * told, {**errors, "doubt": told.detach()})

    def export(self, model: PoseNet, directory: Path) -> None:
        """Write the model directory (bfloat16)."""
        model.save_pretrained(directory, torch.bfloat16)


def either_way(video: Tensor, poses: Tensor, rngs: Sequence[Rng]) -> tuple[Tensor, Tensor]:
    """Clips [B, T, H, W, 3] and poses [B, T, 4] -> clips and their motion [B, T-1, 3], some reversed, some mirrored.

    The picture of a frame is a function of its pose, so a clip that runs backward is a true clip of the reversed poses.
    """
    clips, found = list[Tensor](), list[Tensor]()
    for clip, pose, rng in zip(video, poses, rngs):
        back, mirrored = (rng.uniform("mirror", shape=(2,)) < 0.5).tolist()
        clip, pose = (clip.flip(0), pose.flip(0)) if back else (clip, pose)
        moved = motion(pose)
        clips.append(clip.flip(2) if mirrored else clip)
        found.append(moved * moved.new_tensor(MIRRORED) if mirrored else moved)
    return torch.stack(clips), torch.stack(found)
