"""A frame-pyramid tokenizer: a convolutional autoencoder with a multi-scale residual quantiser in the middle."""

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
    """Every latent frame is its own pyramid (VideoAR): all scales have t = 1.

    fold: patches of fold x fold latents of the autoencoder form one latent here, so that training can start from a
    tokenizer of finer latents. The quantiser has the channels of the folded latents. scale: initial value of the
    learned factor.
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
            raise ValueError(f"the quantiser has {have} channels, but the latents have {want}; make them equal")
        if any(t != 1 for t, _, _ in self.pyramid.sizes):
            raise ValueError("every frame is a pyramid of its own, so every scale must have t = 1")
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
    def pixel_channels(self) -> int:
        """See `TokenizerConfig`."""
        return self.video_channels

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
        """Pixels along the side of a latent."""
        return self.autoencoder.space_stride * self.fold

    @property
    def time_stride(self) -> int:
        """Frames per latent."""
        return self.autoencoder.time_stride

    @property
    def time_kernel(self) -> Literal[1, 3]:
        """1: every frame is treated separately."""
        return self.autoencoder.time_kernel

    @property
    def latent_channels(self) -> int:
        """C."""
        return self.autoencoder.latent_channels * self.fold**2

    @property
    def video_channels(self) -> int:
        """Channels of a pixel."""
        return self.autoencoder.video_channels

    def build(self) -> PyramidAutoencoder:
        """A new tokenizer with random weights."""
        return PyramidAutoencoder(self)


class PyramidAutoencoder(nn.Module):
    """Video -> the sums of its pyramids, [B, C, t, h, w], and back.

    Latents are normalised and multiplied by a learned factor before they are quantised, because all codes of a
    spherical quantiser have length 1 (InfinityStar). `latents` returns them before quantisation, from which the
    training of a next-scale model starts. All other code uses these units.
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
        """The dtype of the autoencoder's weights."""
        return self.autoencoder.dtype

    @property
    def decoder(self) -> Decoder:
        """The decoder of the autoencoder."""
        return self.autoencoder.decoder

    @property
    def latent_mean(self) -> Tensor:
        """Mean of raw latents, [C]."""
        return self.autoencoder.latent_mean

    @property
    def latent_std(self) -> Tensor:
        """Standard deviation of raw latents, [C]."""
        return self.autoencoder.latent_std

    def latents(self, video: Tensor, state: Tree | None = None) -> tuple[Codes, Tree]:
        """[B, 3, T, H, W] in [-1, 1] -> latents [B, C, t, h, w] before quantisation, float32 or wider."""
        codes, state = self.autoencoder.encode(video, state)
        wide = torch.promote_types(codes.data.dtype, torch.float32)
        return Codes("latent", self._fold(codes.data.to(wide)) * self.scale.to(wide)), state

    def encode(self, video: Tensor, state: Tree | None = None) -> tuple[Codes, Tree]:
        """[B, 3, T, H, W] in [-1, 1] -> sums of the codes of all scales [B, C, t, h, w]."""
        latent, state = self.latents(video, state)
        return Codes("latent", self.pyramid.per_frame(latent.data).total), state

    def labels(self, video: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, T, H, W] in [-1, 1] -> labels by scale, long [B, t, h_k, w_k, G]."""
        return self.pyramid.per_frame(self.latents(video)[0].data).labels

    def decode(self, codes: Codes, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Sums [B, C, t, h, w] -> [B, 3, T, H, W], clamped to [-1, 1]."""
        return self.autoencoder.decode(
            Codes("latent", self._unfold(codes.data / self.scale.to(codes.data.dtype))), state
        )

    def grid_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent (t, h, w) of a whole video. Raises UsageError for sizes that are not multiples of a stride."""
        t, h, w = self.autoencoder.grid_shape(frames, height, width)
        fold = self.config.fold
        if h % fold or w % fold:
            side = self.config.space_stride
            raise UsageError(
                f"latents of {h}x{w} cannot be folded by {fold}; height and width must be multiples of {side}"
            )
        return t, h // fold, w // fold

    def encode_raw(self, video: Tensor, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Raw latents of the autoencoder, as training needs them."""
        return self.autoencoder.encode_raw(video, state)

    def decode_raw(self, raw: Tensor, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Decode raw latents, without clamping."""
        return self.autoencoder.decode_raw(raw, state)

    def track_statistics(self, raw: Tensor) -> None:
        """Update the normalisation with the statistics of raw latents, during training."""
        self.autoencoder.track_statistics(raw)

    def quantised_raw(self, raw: Tensor, rngs: Sequence[Rng], training: bool) -> tuple[Tensor, Loss]:
        """Raw latents after a round trip through the pyramids, with the quantiser's loss.

        One Rng per clip drops scales.
        """
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
