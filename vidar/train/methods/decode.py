"""Training of a world's decoder on latents that the world generates; encoder and world stay unchanged.

Under uncertainty a world predicts smooth latents, which a decoder trained on real latents turns into blur. Choice: the
decoder learns to reconstruct the frames from both; the losses are those of the autoencoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from vidar.config import Config
from vidar.data.atomic import replacing
from vidar.data.index import load_index
from vidar.model.load import load, locate, save
from vidar.model.model import VideoModel
from vidar.model.starts import copy_starts
from vidar.model.trained import note_steps, trained_steps
from vidar.rng import Rng
from vidar.tokenizers.autoencoder import Autoencoder, column
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.train.checks import DryRun
from vidar.train.dreams import DreamBatch
from vidar.train.methods.autoencode import AdversarialPair, AutoencodeConfig
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss, UsageError, VidarError


class DecodeConfig(Config):
    """world: directory of the trained world, whose decoder is trained further.

    losses: weights of the losses; its tokenizer config must equal that of the world.
    """

    world: str
    losses: AutoencodeConfig

    def build(self) -> Decode:
        """The method."""
        return Decode(self)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`."""
        losses, kind = self.losses.build(), self.losses.tokenizer
        with torch.device("meta"):
            autoencoder = kind.build()
            autoencoder.encoder.requires_grad_(False)
            model = losses.judged(autoencoder)
        try:
            index = load_index(data.path)
        except VidarError:
            return DryRun(model, None)
        sides = (index.height, index.width)
        video = torch.empty(data.batch, 3, 1, *sides, device="meta")
        latent = (side // kind.strides[1] for side in sides)
        raw = torch.empty(data.batch, kind.channels, 1, *latent, device="meta")
        rngs = [Rng(0, number) for number in range(data.batch)]
        return DryRun(model, lambda: losses.decoded(model, raw, video, rngs))


class Decode:
    """The method: `step` computes the loss on generated latents; `export` writes the world with its new decoder."""

    def __init__(self, config: DecodeConfig) -> None:
        self.config = config
        self.losses = config.losses.build()

    def world(self) -> VideoModel:
        """The original world. Raises UsageError if its tokenizer differs from that of the losses."""
        world = load(self.config.world, dtype=torch.float32)
        if world.config.tokenizer != self.config.losses.tokenizer:
            raise UsageError(f"{self.config.world}: has another tokenizer than method.losses.tokenizer; use its config")
        return world

    def build_model(self) -> Autoencoder | AdversarialPair:
        """The tokenizer of the world with a frozen encoder, and its discriminators if the config has any."""
        autoencoder = cast(Autoencoder, self.world().tokenizer).train()  # `world` has compared the configs
        autoencoder.encoder.requires_grad_(False)
        return self.losses.judged(autoencoder)

    def step(
        self, model: Autoencoder | AdversarialPair, batch: DreamBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE
    ) -> Loss:
        """The loss on a batch of frames, with one Rng per frame."""
        known = self.losses.product(model)
        raw = batch.latents * column(known.latent_std) + column(known.latent_mean)
        return self.losses.decoded(model, raw, to_float(batch.video), rngs)

    def export(self, model: Autoencoder | AdversarialPair, directory: Path) -> None:
        """Write the world with this decoder."""
        world = self.world()
        world.tokenizer.load_state_dict(self.losses.product(model).state_dict())
        save(world, directory)
        note_steps(directory, trained_steps(locate(self.config.world)))
        copy_starts(locate(self.config.world), directory)

    @torch.no_grad()
    def sample(self, model: Autoencoder | AdversarialPair, batch: DreamBatch, path: Path) -> None:
        """Write PATH.png: eight frames above, the pictures decoded from their latents below."""
        known = self.losses.product(model)
        raw = batch.latents[:8] * column(known.latent_std) + column(known.latent_mean)
        painted = to_uint8(known.decode_raw(raw)[0].clamp(-1, 1))
        rows: list[Tensor] = [torch.cat(list(video[:, 0]), 1) for video in (batch.video[:8], painted)]
        with replacing(path.with_suffix(".png")) as file:
            Image.fromarray(torch.cat(rows).cpu().numpy()).save(file, format="png")
