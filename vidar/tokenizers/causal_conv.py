"""Causal convolution over a stream of frames, channels last: [B, T, H, W, C].

Channels are last throughout, because convolutions in bf16 run several times faster than in NCTHW, norms and 1x1 maps
act on the last axis, and folding time into the batch is a view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidar.tokenizers.stream import Stream


class CausalConv(nn.Module):
    """Convolution over the current and the `time_kernel - 1` previous frames.

    The first frame is repeated before the start (as in CogVideoX, InfinityStar), so an image is a static video. Space
    is padded with zeros. With time_kernel 1, time is folded into the batch and the convolution is 2D.
    """

    def __init__(self, channels_in: int, channels_out: int, name: str, kernel: int = 3, time_kernel: int = 1) -> None:
        super().__init__()
        self.name = name
        self.time_kernel = time_kernel
        pad = kernel // 2
        if time_kernel == 1:
            conv = nn.Conv2d(channels_in, channels_out, kernel, padding=pad)
            # torch's stub of `to` has no overload for a memory format alone
            self.conv = conv.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        else:
            size = (time_kernel, kernel, kernel)
            conv = nn.Conv3d(channels_in, channels_out, size, padding=(0, pad, pad))
            self.conv = conv.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[B, T, H, W, C] -> [B, T, H, W, C']."""
        if self.time_kernel == 1:
            y = self.conv(x.flatten(0, 1).permute(0, 3, 1, 2))  # (b t) c h w
            return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        x = stream.extend(self.name, x, self.time_kernel - 1)
        return self.conv(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each position; it mixes neither frames nor places.

    Choice: LayerNorm instead of RMS norm, because its fused CPU backward pass is 3-6 times faster; statistics are
    float32 or wider.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C], dtype of x."""
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), None, 1e-6)


class ResBlock(nn.Module):
    """x + conv(silu(conv(norm(x)))). Choice: one norm per block; the last convolution starts at zero."""

    def __init__(self, channels: int, name: str, time_kernel: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv_in = CausalConv(channels, channels, f"{name}.conv_in", time_kernel=time_kernel)
        self.conv_out = CausalConv(channels, channels, f"{name}.conv_out", time_kernel=time_kernel)
        nn.init.zeros_(self.conv_out.conv.weight)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[B, T, H, W, C] -> same shape."""
        return x + self.conv_out(F.silu(self.conv_in(self.norm(x), stream)), stream)
