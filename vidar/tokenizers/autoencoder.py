"""Causal streaming autoencoder: video to a small latent video and back."""

from __future__ import annotations

import math
import os
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.nn.pretrained import load_component, save_component
from vidar.tokenizers.causal_conv import CausalConv, ChannelNorm, ResBlock
from vidar.tokenizers.config import TokenizerConfig
from vidar.tokenizers.resample import Down, Up, depth_to_space, space_to_depth
from vidar.tokenizers.stream import Stream
from vidar.types import CodeKind, Codes, Tree, UsageError


class AutoencoderConfig(TokenizerConfig):
    """One entry of `widths` per level, finest first; each level halves height and width.

    Space-to-depth at the pixels supplies the rest of `space_stride`: stride 8 with three widths starts from 2 x 2
    patches. The coarsest downsamplings also halve time, until `time_stride` is reached.
    """

    widths: tuple[int, ...] = (64, 128, 256)
    num_res_blocks: tuple[int, ...] = (1, 2, 2)  # per level of the encoder, and of the decoder
    latent_channels: int = Field(default=8, ge=1)
    space_stride: Literal[8, 16, 32] = 8
    time_stride: Literal[1, 2, 4, 8] = 1
    time_kernel: Literal[1, 3] = 1  # 1: an image tokenizer that treats every frame separately
    video_channels: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _check(self) -> AutoencoderConfig:
        downs = len(self.widths) - 1
        if not self.widths or len(self.num_res_blocks) != len(self.widths):
            raise ValueError(f"num_res_blocks needs {len(self.widths)} entries, one per width")
        if 2**downs > self.space_stride:
            raise ValueError(
                f"{len(self.widths)} widths halve space {downs} times, which exceeds a stride of {self.space_stride}"
            )
        if 2**downs < self.time_stride:
            raise ValueError(
                f"time_stride {self.time_stride} needs at least {1 + int(math.log2(self.time_stride))} widths"
            )
        return self

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
        """See `TokenizerConfig`: of all convolutions of the decoder, one after another."""
        convolutions = 2 * sum(self.num_res_blocks) + len(self.widths) + 1
        return (self.time_kernel - 1) * convolutions

    def image(self) -> AutoencoderConfig:
        """See `TokenizerConfig`."""
        return self.replace(time_kernel=1, time_stride=1)

    @property
    def patch(self) -> int:
        """Side of the pixel patches that the first convolution reads."""
        return self.space_stride // 2 ** (len(self.widths) - 1)

    @property
    def time_factors(self) -> tuple[int, ...]:
        """The factor by which each downsampling divides time, finest first."""
        downs, halvings = len(self.widths) - 1, int(math.log2(self.time_stride))
        return (1,) * (downs - halvings) + (2,) * halvings

    def build(self) -> Autoencoder:
        """A new autoencoder with random weights."""
        return Autoencoder(self)


class Encoder(nn.Module):
    """Pixels to raw latents, channels last."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, kt, self.patch = config.widths, config.time_kernel, config.patch
        self.stem = CausalConv(config.video_channels * self.patch**2, widths[0], "encoder.stem", time_kernel=kt)
        self.layers = nn.ModuleList()
        for level, width in enumerate(widths):
            if level:
                factor = config.time_factors[level - 1]
                self.layers.append(Down(widths[level - 1], width, f"encoder.{len(self.layers)}", kt, factor))
            for _ in range(config.num_res_blocks[level]):
                self.layers.append(ResBlock(width, f"encoder.{len(self.layers)}", kt))
        self.norm = ChannelNorm(widths[-1])
        self.head = CausalConv(widths[-1], config.latent_channels, "encoder.head", time_kernel=kt)

    def forward(self, video: Tensor, stream: Stream) -> Tensor:
        """[B, T, H, W, 3] -> [B, t, h, w, C]."""
        x = self.stem(space_to_depth(video, self.patch), stream)
        for layer in self.layers:
            x = layer(x, stream)
        return self.head(F.silu(self.norm(x)), stream)


class Decoder(nn.Module):
    """Raw latents to pixels, channels last; the encoder mirrored."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, kt, self.patch = config.widths, config.time_kernel, config.patch
        self.stem = CausalConv(config.latent_channels, widths[-1], "decoder.stem", time_kernel=kt)
        self.layers = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(config.num_res_blocks[level]):
                self.layers.append(ResBlock(widths[level], f"decoder.{len(self.layers)}", kt))
            if level:
                factor = config.time_factors[level - 1]
                self.layers.append(Up(widths[level], widths[level - 1], f"decoder.{len(self.layers)}", kt, factor))
        self.norm = ChannelNorm(widths[0])
        self.head = CausalConv(widths[0], config.video_channels * self.patch**2, "decoder.head", time_kernel=kt)

    def forward(self, latent: Tensor, stream: Stream) -> Tensor:
        """[B, t, h, w, C] -> [B, T, H, W, 3]."""
        x = self.stem(latent, stream)
        for layer in self.layers:
            x = layer(x, stream)
        return depth_to_space(self.head(F.silu(self.norm(x)), stream), self.patch)


class Autoencoder(nn.Module):
    """Tokenizer with latents [B, C, t, h, w], normalised to mean 0 and deviation 1 per channel once measured.

    The first frame of a stream alone becomes the first latent; every following group of `time_stride` frames becomes
    one latent. Encoding is deterministic. Computes in the dtype of its weights, or in that of autocast.
    """

    kind: CodeKind = "latent"
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights and of all outputs."""
        return self.latent_mean.dtype

    def encode(self, video: Tensor, state: Tree | None = None) -> tuple[Codes, Tree]:
        """[B, 3, T, H, W] in [-1, 1] -> latents [B, C, t, h, w].

        Raises UsageError for sizes that are not multiples of a stride.
        """
        raw, state = self.encode_raw(video, state)
        return Codes("latent", (raw - column(self.latent_mean)) / column(self.latent_std)), state

    def decode(self, codes: Codes, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Latents [B, C, t, h, w] -> [B, 3, T, H, W], clamped to [-1, 1]."""
        latent = codes.data.to(self.dtype)
        self._check_latent(latent)
        video, state = self.decode_raw(latent * column(self.latent_std) + column(self.latent_mean), state)
        return video.clamp(-1, 1), state

    def encode_raw(self, video: Tensor, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Like `encode`, without normalisation, as training needs it."""
        stream = Stream(state)
        self._check_frames(video.shape[2], stream.first)
        self._check_space(*video.shape[-2:])
        raw = self.encoder(video.to(self.dtype).permute(0, 2, 3, 4, 1), stream)
        return raw.permute(0, 4, 1, 2, 3).to(self.dtype), stream.state()

    def decode_raw(self, raw: Tensor, state: Tree | None = None) -> tuple[Tensor, Tree]:
        """Like `decode`, from unnormalised latents and without clamping."""
        self._check_latent(raw)
        stream = Stream(state)
        video = self.decoder(raw.permute(0, 2, 3, 4, 1), stream)
        return video.permute(0, 4, 1, 2, 3).to(self.dtype), stream.state()

    def grid_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent (t, h, w) of a whole video. Raises UsageError for sizes that are not multiples of a stride."""
        self._check_frames(frames, first=True)
        self._check_space(height, width)
        stride = self.config.space_stride
        return 1 + (frames - 1) // self.config.time_stride, height // stride, width // stride

    @torch.no_grad()
    def track_statistics(self, raw: Tensor, momentum: float = 0.01) -> None:
        """Update the normalisation with the statistics of raw latents [B, C, t, h, w], during training."""
        values = raw.transpose(0, 1).flatten(1).to(self.dtype)  # C n
        mean, std = self.latent_mean, self.latent_std
        square = (mean.square() + std.square()).lerp(values.square().mean(dim=1), momentum)
        mean.lerp_(values.mean(dim=1), momentum)
        std.copy_((square - mean.square()).clamp_min(1e-12).sqrt())

    def save_pretrained(self, directory: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(self, self.config, directory, dtype)

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str]) -> Autoencoder:
        """Read what `save_pretrained` wrote. Raises VidarError for missing or damaged files."""
        model = load_component(directory)
        if not isinstance(model, Autoencoder):
            raise UsageError(f"{directory}: holds a {type(model).__name__}, not an Autoencoder")
        return model

    def _check_latent(self, latent: Tensor) -> None:
        channels = self.config.latent_channels
        if latent.ndim != 5 or latent.shape[1] != channels or not latent.shape[2]:
            want = f"[B, {channels}, t, h, w] with t >= 1"
            raise UsageError(f"latents of shape {list(latent.shape)} cannot be decoded; expected {want}")

    def _check_frames(self, frames: int, first: bool) -> None:
        stride, extra = self.config.time_stride, int(first)
        if frames >= 1 and (frames - extra) % stride == 0:
            return
        below = (frames - extra) // stride * stride + extra
        use = " or ".join(str(n) for n in (below, below + stride) if n >= 1)
        chunk = "first" if first else "later"
        raise UsageError(f"a {chunk} chunk of {frames} frames does not fit time stride {stride}; use {use}")

    def _check_space(self, height: int, width: int) -> None:
        stride = self.config.space_stride
        for name, size in (("height", height), ("width", width)):
            if size % stride or not size:
                below = size // stride * stride
                use = " or ".join(str(n) for n in (below, below + stride) if n)
                raise UsageError(f"{name} {size} does not divide by {stride}; use {use}")


def column(values: Tensor) -> Tensor:
    """[C] -> [C, 1, 1, 1]."""
    return values.reshape(-1, 1, 1, 1)
