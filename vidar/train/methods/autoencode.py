"""Training of an autoencoder: reconstruction, structure, a bottleneck and optional adversaries.

The bottleneck is Gaussian, or the quantised pyramids of the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from vidar.config import Config
from vidar.data.atomic import replacing
from vidar.data.index import Index
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.tokenizers.autoencoder import Autoencoder, AutoencoderConfig
from vidar.tokenizers.config import TokenizerConfig
from vidar.tokenizers.discriminator import Discriminator, DiscriminatorConfig, adaptive_weight, generator_hinge
from vidar.tokenizers.inflate import take_over
from vidar.tokenizers.perceptual import energy_loss, grain_loss, structure_loss, texture_loss
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.train.checks import DryRun, blank
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss, Segment, UsageError


class AutoencodeConfig(Config):
    """Weights of the loss terms; 0 leaves a term out.

    Choice: a posterior of fixed standard deviation `latent_noise` and its KL divergence to a unit normal, which is
    z^2 / 2 up to a constant. The decoder learns to tolerate errors of that size, encoding stays deterministic, and
    latents stay bounded.

    start: directory of a tokenizer to start from: one of the same kind or, for a quantising tokenizer, a plain
    autoencoder (an image tokenizer made discrete). A tokenizer of single frames is inflated for a video tokenizer. gan:
    discriminator of single frames. video_gan: discriminator of whole clips, with `gan` or without it.
    """

    tokenizer: TokenizerConfig = AutoencoderConfig()
    start: str | None = None
    l1: float = Field(default=1.0, ge=0)
    l2: float = Field(default=1.0, ge=0)
    structure: float = Field(default=0.1, ge=0)
    texture: float = Field(default=0.0, ge=0)
    texture_power: float = Field(default=1.0, ge=1)  # see `texture_loss`
    grain: float = Field(default=0.0, ge=0)
    energy: float = Field(default=0.0, ge=0)
    latent_penalty: float = Field(default=1e-4, ge=0)
    latent_noise: float = Field(default=0.1, ge=0)
    quantiser: float = Field(default=1.0, ge=0)  # weight of the quantiser's loss, if the tokenizer has one
    gan: DiscriminatorConfig | None = None
    video_gan: DiscriminatorConfig | None = None

    def check_frames(self, frames: int) -> None:
        """Raises UsageError for clips whose length does not fit the tokenizer or the adversary of clips."""
        stride = self.tokenizer.strides[0]
        if (frames - 1) % stride:
            below = (frames - 1) // stride * stride + 1
            raise UsageError(
                f"data.clip_frames is {frames}, which does not fit tokenizer.time_stride {stride}; "
                f"use {below} or {below + stride}"
            )
        if self.video_gan is not None and frames < 2:
            raise UsageError(
                f"video_gan judges clips, but data.clip_frames is {frames}; set data.clip_frames={1 + stride} or more, "
                "or video_gan=null"
            )

    def build(self) -> Autoencode:
        """The method."""
        return Autoencode(self)

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.ChecksData`. Checks clip length and frame size."""
        if hasattr(data, "clip_frames"):
            self.check_frames(data.clip_frames)
        if index is None:
            return
        stride = self.tokenizer.strides[1]
        for name, size in (("height", index.height), ("width", index.width)):
            if size % stride:
                raise UsageError(f"{data.path}: {name} {size} does not divide by the tokenizer's stride {stride}")
        have, scales = (index.height // stride, index.width // stride), self.tokenizer.sides
        if scales and have != scales[-1]:
            raise UsageError(
                f"{data.path}: {index.height} x {index.width} pixels make {have[0]} x {have[1]} latents; the last "
                f"of method.tokenizer.pyramid.sizes is {scales[-1][0]} x {scales[-1][1]}"
            )

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Runs the whole step, with its losses and discriminators."""
        built = self.replace(start=None).build()
        with torch.device("meta"):
            model = built.build_model()
        video = blank(data)
        if video is None:
            return DryRun(model, None)
        sides = torch.zeros(video.shape[:2])
        batch = Segment(video, sides[..., None], sides.bool(), torch.arange(len(video)), [""] * len(video))
        rngs = [Rng(0, number) for number in range(len(video))]
        return DryRun(model, lambda: built.step(model, batch, rngs))


AnyAutoencoder = Autoencoder | PyramidAutoencoder
Judged = TypeVar("Judged", bound=AnyAutoencoder)


class AdversarialPair(nn.Module):
    """An autoencoder and its discriminators, trained by one optimiser; neither loss reaches the other's weights.

    discriminator: of single frames. video_discriminator: of clips. One of them may be None.
    """

    def __init__(
        self,
        autoencoder: AnyAutoencoder,
        discriminator: Discriminator | None,
        video_discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.discriminator = discriminator
        self.video_discriminator = video_discriminator

    def judges(self) -> dict[str, Discriminator]:
        """The discriminators, by the prefix of their loss parts."""
        both = {"": self.discriminator, "video_": self.video_discriminator}
        return {prefix: judge for prefix, judge in both.items() if judge is not None}


class Autoencode:
    """Method `autoencode`. On a CPU or GPU with bf16 call `step` inside `torch.autocast(device, torch.bfloat16)`."""

    def __init__(self, config: AutoencodeConfig) -> None:
        self.config = config

    def build_model(self) -> AnyAutoencoder | AdversarialPair:
        """The autoencoder, with its discriminators if the config has any.

        Raises UsageError if the tokenizer in `start` does not fit and cannot be inflated.
        """
        model, start = self.config.tokenizer.build(), self.config.start
        if start is not None:
            known = load_component(start)
            pyramids = model if isinstance(known, Autoencoder) and isinstance(model, PyramidAutoencoder) else None
            take_over(known, pyramids.autoencoder if pyramids else model, start)
        return self.judged(model)

    def judged(self, autoencoder: Judged) -> Judged | AdversarialPair:
        """An autoencoder with fresh adversaries, if there are any."""
        config, channels = self.config, self.config.tokenizer.pixel_channels
        if config.gan is None and config.video_gan is None:
            return autoencoder
        image = None if config.gan is None else Discriminator(config.gan, channels)
        clips = None if config.video_gan is None else Discriminator(config.video_gan, channels, time_kernel=3)
        return AdversarialPair(autoencoder, image, clips)

    @staticmethod
    def product(model: AnyAutoencoder | AdversarialPair) -> AnyAutoencoder:
        """The autoencoder of a trained model, which is exported."""
        return model.autoencoder if isinstance(model, AdversarialPair) else model

    def step(
        self, model: AnyAutoencoder | AdversarialPair, batch: Segment, rngs: Sequence[Rng], ranks: Ranks = ALONE
    ) -> Loss:
        """The loss on a batch of clips, with one Rng per clip."""
        autoencoder = self.product(model)
        video = to_float(batch.video)
        raw, _ = autoencoder.encode_raw(video)
        if model.training:
            autoencoder.track_statistics(raw)
        if not isinstance(autoencoder, PyramidAutoencoder):
            return self.decoded(model, raw, video, rngs)
        raw, quantised = autoencoder.quantised_raw(raw, rngs, model.training)
        loss = self.decoded(model, raw, video, rngs)
        return Loss(loss.total + self.config.quantiser * quantised.total, {**loss.parts, **quantised.parts})

    def decoded(self, model: AnyAutoencoder | AdversarialPair, raw: Tensor, video: Tensor, rngs: Sequence[Rng]) -> Loss:
        """The loss of decoding raw latents [B, C, t, h, w] against video [B, 3, T, H, W] in [-1, 1]."""
        config, autoencoder = self.config, self.product(model)
        config.check_frames(video.shape[2])
        noise = torch.stack([rng.normal("latent_noise", shape=raw.shape[1:]) for rng in rngs]).to(raw)
        out, _ = autoencoder.decode_raw(raw + config.latent_noise * noise)
        parts = {"l1": F.l1_loss(out, video), "l2": F.mse_loss(out, video), "latent_penalty": raw.square().mean() / 2}
        if config.structure:
            parts["structure"] = structure_loss(out, video)
        if config.texture:
            parts["texture"] = texture_loss(out, video, config.texture_power)
        if config.grain:
            parts["grain"] = grain_loss(out, video)
        if config.energy:
            parts["energy"] = energy_loss(out, video)
        total = sum((getattr(config, name) * value for name, value in parts.items()), out.new_zeros(()))
        if isinstance(model, AdversarialPair):
            plain = total
            for prefix, judge in model.judges().items():
                gan, own = self._adversary(model, judge, video, out, plain)
                total = total + gan + own.total
                parts |= {f"{prefix}{name}": value for name, value in {"gan": gan, **own.parts}.items()}
        parts["psnr"] = -10 * torch.log10(parts["l2"].detach() / 4)
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    @staticmethod
    def _adversary(
        pair: AdversarialPair, judge: Discriminator, video: Tensor, out: Tensor, total: Tensor
    ) -> tuple[Tensor, Loss]:
        """The weighted adversarial term of the autoencoder, and the loss of the discriminator."""
        frozen = {name: value.detach() for name, value in judge.named_parameters()}
        gan = generator_hinge(functional_call(judge, frozen, (out,)))
        weight = judge.config.weight * judge.ramp()
        if judge.config.adaptive:
            weight = weight * adaptive_weight(total, gan, pair.autoencoder.decoder.head.conv.weight)
        return weight * gan, judge.loss(video, out)

    @torch.no_grad()
    def evaluate(self, model: AnyAutoencoder | AdversarialPair, video: Tensor) -> dict[str, float]:
        """PSNR in dB (mean over frames, on 8-bit pixels) and structure loss, on uint8 video [B, T, H, W, 3]."""
        autoencoder = self.product(model)
        video = video.to(autoencoder.latent_mean.device)
        x = to_float(video)
        out, _ = autoencoder.decode(autoencoder.encode(x)[0])
        error = (to_uint8(out).float() - video.float()).square().mean(dim=(2, 3, 4))
        psnr = 10 * torch.log10(255**2 / error.clamp_min(1e-6))
        return {"psnr": psnr.mean().item(), "structure": structure_loss(out, x).item()}

    def export(self, model: AnyAutoencoder | AdversarialPair, directory: Path) -> None:
        """Write the autoencoder as a model directory."""
        self.product(model).save_pretrained(directory)

    @torch.no_grad()
    def sample(self, model: AnyAutoencoder | AdversarialPair, batch: Segment, path: Path) -> None:
        """Write PATH.png: the first frames of eight clips above, their reconstructions below."""
        autoencoder = self.product(model)
        video = batch.video[:8]
        out, _ = autoencoder.decode(autoencoder.encode(to_float(video))[0])
        rows = torch.stack([video[:, 0], to_uint8(out)[:, 0]])
        with replacing(path.with_suffix(".png")) as file:
            picture = rearrange(rows, "r b h w c -> (r h) (b w) c").cpu().numpy()
            Image.fromarray(picture).save(file, format="png")
