"""Training of a world that predicts its frames scale by scale, on the latents of clips before quantisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.core.layout import Layout, compile_layout
from vidar.core.step import single
from vidar.model.load import save
from vidar.model.model import VideoModel
from vidar.nn.pretrained import load_component
from vidar.objectives.next_scale import NextScale
from vidar.rng import Rng
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.train.latents import LatentBatch
from vidar.train.methods.latent_clips import LearnsWorldConfig
from vidar.train.methods.world import SHOWN, network, show, told
from vidar.types import Loss


class TrainScalesConfig(LearnsWorldConfig):
    """tokenizer: directory of the trained one. start: directory of a world whose network is gone on from.

    p_unknown: share of clips whose actions are hidden from the model.
    """

    clip_frames: int = Field(ge=2)
    p_unknown: float = Field(default=0.05, ge=0, le=1)

    def build(self) -> TrainScales:
        """The method."""
        return TrainScales(self)

    def length(self) -> int:
        """Frames of a clip."""
        return self.clip_frames


class TrainScales:
    """`step` is one loss on latent clips; `export` writes a world directory.

    Every unit stands once: what predicts a scale is what is committed, and the memory unit of the last frame is left
    out, since nobody reads it.
    """

    def __init__(self, config: TrainScalesConfig):
        self.config = config
        system = config.world.system(config.clip_frames)
        units = range(system.frames.units(config.clip_frames).start - 1)
        self.layout: Layout = compile_layout(single(units), system.order, [system.grid])

    @cached_property
    def tokenizer(self) -> PyramidAutoencoder:
        """The trained one, read when it is first asked for. Raises VidarError where it is missing or damaged."""
        return cast(PyramidAutoencoder, load_component(self.config.tokenizer)).requires_grad_(False)

    @cached_property
    def objective(self) -> NextScale:
        """With the pyramid of the trained tokenizer."""
        system = self.config.world.system(self.config.clip_frames, pyramid=self.tokenizer.pyramid)
        return cast(NextScale, system.objective)

    def to(self, device: torch.device) -> None:
        """Move the tokenizer, whose pyramid is asked in every step."""
        self.tokenizer.to(device)

    def build_model(self) -> WorldNet:
        """The network, fresh or as `start` has it. Raises UsageError where that is another network."""
        return network(self.config.world, self.config.start)

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        actions = told(batch, rngs, self.config.p_unknown)
        with torch.no_grad():
            seen, target, keep = self.objective.prepare(batch.codes.flatten(1, 2), self.layout, rngs)
        return self.objective.loss(model(seen, self.layout.with_keep(keep), actions), target)

    def world(self, model: WorldNet) -> VideoModel:
        """A world of this network and the frozen tokenizer."""
        return VideoModel(self.config.world, self.tokenizer, model)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a world directory (bfloat16)."""
        save(self.world(model), directory)

    @torch.no_grad()
    def sample(self, model: WorldNet, batch: LatentBatch, path: Path) -> None:
        """Write PATH.mp4, see `vidar.train.methods.world.show`."""
        world = self.world(model)
        show(world, self._quantised(world, batch.codes[:SHOWN].float()), batch.actions[:SHOWN], path)

    def _quantised(self, world: VideoModel, latents: Tensor) -> Tensor:
        """Latents [B, T, n, C] -> what their pyramids add up to."""
        shape: Any = (latents.shape[1], *world.config.sites)
        grid = latents.flatten(1, 2).transpose(1, 2).unflatten(2, shape)
        return to_sites(self.tokenizer.pyramid.per_frame(grid).total, 1).unflatten(1, (latents.shape[1], -1))
