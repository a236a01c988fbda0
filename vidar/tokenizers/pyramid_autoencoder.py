"""A tokenizer of frame pyramids: a convolutional autoencoder with a multi-scale residual quantiser in its middle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.nn.pretrained import save_component
from vidar.rng import Rng
from vidar.tokenizers.autoencoder import AutoencoderConfig, Decoder, column
from vidar.tokenizers.config import Side, TokenizerConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.types import CodeKind, Codes, Loss, Tree, UsageError


class PyramidAutoencoderConfig(TokenizerConfig):
    """Every latent frame is its own pyramid (VideoAR; scale-wise 2.5, layout 2): all scales have t = 1.

    fold: patches of fold x fold latents of the autoencoder are one latent here, so that training can start from a
    tokenizer of finer latents. The channels of the quantiser are those of the folded latents. scale: what the learned
    number starts from.
    """

    codes: ClassVar[tuple[str, ...]] = ("scales", "pyramids")

    autoencoder: AutoencoderConfig
    pyramid: MultiScaleConfig
    fold: int = Field(default=1, ge=1)
    scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> PyramidAutoencoderConfig:
        have, want = self.pyramid.quantiser.build().channels, self.latent_channels
        if have != want:
            raise ValueError(f"the quantiser has {have} channels, the latents have {want}; make them equal")
        if any(t != 1 for t, _, _ in self.pyramid.sizes):
            raise ValueError("every frame is a pyramid of its own, so every scale has t = 1")
        return self

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every scale."""
        return tuple((h, w) for _, h, w in self.pyramid.sizes)

    @property
    def strides(self) -> tuple[int, int]:
        """See `TokenizerConfig`."""
        return self.time_stride, self.space_stride

    @property
    def channels(self) -> int:
        """See `TokenizerConfig`."""
        return self.latent_channels

    @property
    def memory(self) -> int:
        """See `TokenizerConfig`."""
        return self.autoencoder.memory

    @property
    def pyramid_config(self) -> MultiScaleConfig:
        """See `TokenizerConfig`."""
        return self.pyramid

    def image(self) -> PyramidAutoencoderConfig:
        """See `TokenizerConfig`."""
        return self.replace(autoencoder=self.autoencoder.image())

    def rescaled(self, sides: tuple[Side, ...]) -> Self:
        """See `TokenizerConfig`."""
        sizes = tuple((1, height, width) for height, width in sides)
        return self.replace(pyramid=self.pyramid.replace(sizes=sizes)) if len(sizes) == len(self.sides) else self

    @property
    def space_stride(self) -> int:
        """Pixels of a latent, along a side."""
        return self.autoencoder.space_stride * self.fold

    @property
    def time_stride(self) -> int:
        """Frames of a latent."""
        return self.autoencoder.time_stride

    @property
    def time_kernel(self) -> Literal[1, 3]:
        """1: every frame by itself."""
        return self.autoencoder.time_kernel

    @property
    def latent_channels(self) -> int:
        """C."""
        return self.autoencoder.latent_channels * self.fold**2

    @property
    def video_channels(self) -> int:
        """Of a pixel."""
        return self.autoencoder.video_channels

    def build(self) -> PyramidAutoencoder:
        """A new tokenizer with random weights."""
        return PyramidAutoencoder(self)


class PyramidAutoencoder(nn.Module):
    """Video to what its pyramids add up to, [B, C, t, h, w], and back.

    Latents are normalised and multiplied by a learned number before they are quantised, since the codes of a spherical
    quantiser all have length 1 (InfinityStar; scale-wise 2.2). `latents` gives them as they are before quantisation:
    what the training of a next-scale model starts from. Everything outside is in these units.
    """

    kind: CodeKind = "latent"

    def __init__(self, config: PyramidAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = config.autoencoder.build()
        self.pyramid = config.pyramid.build()
        self.scale = nn.Parameter(torch.tensor(config.scale))

    @property
    def dtype(self) -> torch.dtype:
        """Of the autoencoder's weights."""
        return self.autoencoder.dtype

    @property
    def decoder(self) -> Decoder:
        """The autoencoder's."""
        return self.autoencoder.decoder

    @property
    def latent_mean(self) -> Tensor:
        """Of raw latents, [C]."""
        return self.autoencoder.latent_mean

    @property
    def latent_std(self) -> Tensor:
        """Of raw latents, [C]."""
        return self.autoencoder.latent_std

    def latents(self, video: Tensor, state: Tree | None = None) -> tuple[Codes, Tree]:
        """[B, 3, T, H, W] in [-1, 1] -> latents [B, C, t, h, w] before quantisation, at least float32."""
        codes, state = self.autoencoder.encode(video, state)
        wide = torch.promote_types(codes.data.dtype, torch.float32)
        return Codes("latent", self._fold(codes.data.to(wide)) * self.scale.to(wide)), state

    def encode(self, video: Tensor, state: Tree | None = None) -> tuple[Codes, Tree]:
        """[B, 3, T, H, W] in [-1, 1] -> sums of the codes of all scales [B, C, t, h, w]."""
        latent, state = self.latents(video, state)
        return Codes("latent", self.pyramid.per_frame(latent.data).total), state

    def labels(self, video: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, T, H, W] in [-1, 1] -> by scale, labels long [B, t, h_k, w_k, G]."""
        return self.pyramid.per_frame(self.latents(video)[0].data).labels

    def decode(self, codes: Codes, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Sums [B, C, t, h, w] -> [B, 3, T, H, W], clamped to [-1, 1]."""
        return self.autoencoder.decode(
            Codes("latent", self._unfold(codes.data / self.scale.to(codes.data.dtype))), state
        )

    def grid_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent (t, h, w) of a whole video. Raises UsageError for sizes that do not divide."""
        t, h, w = self.autoencoder.grid_shape(frames, height, width)
        fold = self.config.fold
        if h % fold or w % fold:
            side = self.config.space_stride
            raise UsageError(f"latents of {h}x{w} do not fold by {fold}; height and width must be multiples of {side}")
        return t, h // fold, w // fold

    def encode_raw(self, video: Tensor, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Raw latents of the autoencoder: what training works on."""
        return self.autoencoder.encode_raw(video, state)

    def decode_raw(self, raw: Tensor, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """From raw latents, without the clamp."""
        return self.autoencoder.decode_raw(raw, state)

    def track_statistics(self, raw: Tensor) -> None:
        """Move the normalisation towards that of raw latents: for training."""
        self.autoencoder.track_statistics(raw)

    def quantised_raw(self, raw: Tensor, rngs: Sequence[Rng], training: bool) -> tuple[Tensor, Loss]:
        """Raw latents through the pyramids and back, with the quantiser's loss; one Rng per clip drops scales."""
        wide = raw.to(torch.promote_types(raw.dtype, torch.float32))
        mean, std = column(self.latent_mean).to(wide), column(self.latent_std).to(wide)
        found = self.pyramid.per_frame(self._fold((wide - mean) / std) * self.scale, rngs, training)
        return (self._unfold(found.total / self.scale) * std + mean).to(raw.dtype), found.loss

    def _fold(self, latent: Tensor) -> Tensor:
        """[B, C, t, h f, w f] -> [B, C f f, t, h, w]."""
        f = self.config.fold
        return rearrange(latent, "b c t (h p) (w q) -> b (c p q) t h w", p=f, q=f)

    def _unfold(self, latent: Tensor) -> Tensor:
        """Inverse of `_fold`."""
        f = self.config.fold
        return rearrange(latent, "b (c p q) t h w -> b c t (h p) (w q)", p=f, q=f)

    def save_pretrained(self, directory: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(self, self.config, directory, dtype)
