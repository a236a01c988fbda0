"""Training of how a player moves, on recorded play with its true poses; the result is a memory for a world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch.nn import functional as F

from vidar.config import Config
from vidar.model.geometry import GeometryConfig
from vidar.nn.depth import DepthNet
from vidar.nn.pose import AXES
from vidar.nn.pretrained import save_component
from vidar.nn.walk import WalkNet
from vidar.rng import Rng
from vidar.train.checks import DryRun, check_equal
from vidar.train.ranks import ALONE, Ranks
from vidar.train.walks import WalkBatch
from vidar.types import Loss


class WalkConfig(Config):
    """memory: config of the memory; its depth network is the trained one in directory `depth`.

    delta: where the Huber loss becomes linear, in the unit of each axis. noise: standard deviation of noise on the
    earlier steps, in that unit, because in play they are predicted ones.
    """

    memory: GeometryConfig
    depth: str
    delta: float = Field(default=0.3, gt=0)
    noise: float = Field(default=0.02, ge=0)

    def build(self) -> Walk:
        """The method."""
        return Walk(self)

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`. The data has the same depth network, cloud and rays."""
        walk = self.memory.walk
        wanted = {"depth": self.depth, "points": self.memory.points, "rays": walk.rays, "reach": walk.reach}
        check_equal(data, {**wanted, "clip_frames": walk.past + 1})

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Runs the network on a batch."""
        walk = self.memory.walk
        with torch.device("meta"):
            model = walk.build()
            sizes = (walk.past, walk.actions), (walk.past, 3), (walk.rays,)
            inputs = [torch.zeros(data.batch, *size) for size in sizes]
        return DryRun(model, lambda: model(*inputs))


class Walk:
    """Method `walk`. Every step of the recordings is a sample."""

    def __init__(self, config: WalkConfig) -> None:
        self.config = config

    def build_model(self) -> WalkNet:
        """The network with fresh weights."""
        return self.config.memory.walk.build()

    def step(self, model: WalkNet, batch: WalkBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Huber loss of the motion in the unit of each axis, with one Rng per sample. parts: mean absolute errors."""
        noise = torch.stack([rng.normal("shown_noise", shape=batch.before.shape[1:]) for rng in rngs])
        before = batch.before + self.config.noise * noise.to(batch.before) * model.scale
        off = (model(batch.actions, before, batch.ranges) - batch.moved) / model.scale
        loss = F.huber_loss(off, torch.zeros_like(off), delta=self.config.delta)
        return Loss(loss, dict(zip(AXES, (off.detach().abs() * model.scale).mean(0))))

    def export(self, model: WalkNet, directory: Path) -> None:
        """Write the whole memory, with its depth network, as a saved module (float32)."""
        memory = self.config.memory.build()
        memory.walk.load_state_dict(model.state_dict())
        memory.depth.load_state_dict(DepthNet.from_pretrained(self.config.depth).state_dict())
        save_component(memory, self.config.memory, directory)
