"""Down- and upsampling with averaged shortcuts: the "DC" blocks of InfinityStar (conv_wan.py), after DC-AE.

Time: the first frame of a stream stays separate; later frames are averaged in groups of `time_factor`.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from vidar.tokenizers.causal_conv import CausalConv
from vidar.tokenizers.stream import Stream
from vidar.types import UsageError


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """[B, T, H f, W f, C] -> [B, T, H, W, f f C]."""
    return rearrange(x, "b t (h p) (w q) c -> b t h w (p q c)", p=factor, q=factor)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """Inverse of `space_to_depth`: [B, T, H, W, f f C] -> [B, T, H f, W f, C]."""
    return rearrange(x, "b t h w (p q c) -> b t (h p) (w q) c", p=factor, q=factor)


def pool_time(x: Tensor, factor: int, first: bool) -> Tensor:
    """Mean over groups of `factor` frames, [B, T, H, W, C]; the first frame of a stream is a group of its own."""
    if factor == 1:
        return x
    head = x[:, :1] if first else x[:, :0]
    rest = reduce(x[:, head.shape[1] :], "b (t f) h w c -> b t h w c", "mean", f=factor)
    return torch.cat([head, rest], dim=1)


def expand_time(x: Tensor, factor: int, first: bool) -> Tensor:
    """[B, T, H, W, f C] -> [B, T f, H, W, C]; for a stream's first latent, the f frames are averaged into one."""
    if factor == 1:
        return x
    y = rearrange(x, "b t h w (f c) -> b (t f) h w c", f=factor)
    return torch.cat([y[:, :factor].mean(dim=1, keepdim=True), y[:, factor:]], dim=1) if first else y


class Down(nn.Module):
    """Halves height and width and divides the frames by `time_factor`; shortcut: channels averaged in groups."""

    def __init__(self, channels_in: int, channels_out: int, name: str, time_kernel: int, time_factor: int) -> None:
        super().__init__()
        check_groups(4 * channels_in, channels_out)
        self.channels_out = channels_out
        self.time_factor = time_factor
        self.conv = CausalConv(channels_in, channels_out // 4, f"{name}.conv", time_kernel=time_kernel)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[B, T, H, W, C] -> [B, T / f, H / 2, W / 2, C']."""
        main = space_to_depth(self.conv(x, stream), 2)
        short = reduce(space_to_depth(x, 2), "b t h w (c g) -> b t h w c", "mean", c=self.channels_out)
        return pool_time(main + short, self.time_factor, stream.first)


class Up(nn.Module):
    """Doubles height and width and multiplies the frames by `time_factor`; shortcut: channels repeated."""

    def __init__(self, channels_in: int, channels_out: int, name: str, time_kernel: int, time_factor: int) -> None:
        super().__init__()
        fold = 4 * time_factor
        check_groups(fold * channels_out, channels_in)
        self.time_factor = time_factor
        self.repeats = fold * channels_out // channels_in
        self.conv = CausalConv(channels_in, fold * channels_out, f"{name}.conv", time_kernel=time_kernel)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[B, T, H, W, C] -> [B, T f, 2 H, 2 W, C']."""
        y = self.conv(x, stream) + repeat(x, "b t h w c -> b t h w (c g)", g=self.repeats)
        return depth_to_space(expand_time(y, self.time_factor, stream.first), 2)


def check_groups(many: int, few: int) -> None:
    """Raises UsageError if channels cannot be averaged or repeated in whole groups."""
    if many % few or few % 4:
        raise UsageError(f"widths must be multiples of 4 and {few} channels must divide {many}; use e.g. 64, 128, 256")
