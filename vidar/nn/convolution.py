"""Convolutions before and after the blocks, on frames whose sites are patches of an image.

An image moves by a fraction of a site from one frame to the next. Convolutions on the cells inside the sites can
represent such shifts, so that attention works on few sites. Choice: 3 x 3 kernels and residual blocks with the same
modulation as the others.
"""

from __future__ import annotations

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.config import Config
from vidar.nn.block import Modulation
from vidar.nn.embed import EmbedConfig, linear
from vidar.nn.heads import HeadConfig
from vidar.nn.norm import modulate
from vidar.types import UsageError


class ConvShape(Config):
    """rows, columns: sites of a unit. patch: cells along the side of a site. channels, depth: of the residual blocks.

    Every unit is one whole image. Raises UsageError if a call contains rows of another length.
    """

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    patch: int = Field(default=2, ge=1)
    channels: int = Field(default=64, ge=1)
    depth: int = Field(default=2, ge=0)

    def cells(self, sites: Tensor) -> Tensor:
        """[B, S, C p p] -> [B G, R p, K p, C], S = G R K."""
        if sites.shape[1] % (self.rows * self.columns):
            raise UsageError(
                f"{sites.shape[1]} slots do not fill whole images of {self.rows} x {self.columns} sites; "
                "a convolution needs units that are whole frames"
            )
        sizes = {"h": self.rows, "w": self.columns, "p": self.patch, "q": self.patch}
        return rearrange(sites, "b (g h w) (c p q) -> (b g) (h p) (w q) c", **sizes)

    def sites(self, cells: Tensor, batch: int) -> Tensor:
        """Inverse of `cells`: [B G, R p, K p, C] -> [B, S, C p p]."""
        sizes = {"b": batch, "p": self.patch, "q": self.patch}
        return rearrange(cells, "(b g) (h p) (w q) c -> b (g h w) (c p q)", **sizes)

    def pictures(self, rows: Tensor, row: Tensor | None, cells: Tensor, batch: int) -> Tensor:
        """Modulation rows [B or 1, M, D] -> [B G, 1, D]: the row of the first slot of each image."""
        first = (
            slice(None, None, rows.shape[1] * batch // len(cells)) if row is None else row[:: self.rows * self.columns]
        )
        return rows[:, first].expand(batch, -1, -1).reshape(len(cells), 1, -1)


def conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 3 x 3 convolution with zero padding."""
    made = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return made.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in the stub


def apply(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """[N, H, W, C] -> [N, H, W, C']."""
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvBlock(nn.Module):
    """x + gate * conv(silu(conv(modulate(x)))), with the modulation of its image."""

    def __init__(self, width: int, channels: int, gate_std: float) -> None:
        super().__init__()
        self.modulation = Modulation(width, 3, gate_std, channels)
        self.enter, self.leave = conv(channels, channels), conv(channels, channels)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """x [N, H, W, C], rows [N, 1, D]."""
        shift, scale, gate = self.modulation(rows, None)  # [N, 1, 1, C]
        return x + gate * apply(self.leave, F.silu(apply(self.enter, modulate(x, shift, scale))))


class ConvEmbedConfig(ConvShape, EmbedConfig):
    """Convolutions on cells, then one linear map per site."""

    def build(self, columns: int, width: int) -> ConvEmbed:
        """Raises ValueError if the columns do not fill whole cells."""
        if columns < 1 or columns % self.patch**2:
            raise ValueError(f"{columns} columns cannot be divided into patches of {self.patch} x {self.patch} cells")
        return ConvEmbed(self, columns, width)


class ConvEmbed(nn.Module):
    """[B, S, I], rows [B or 1, M, D] -> [B, S, D]."""

    def __init__(self, config: ConvEmbedConfig, columns: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.stem = conv(columns // config.patch**2, config.channels)
        self.blocks = nn.ModuleList([ConvBlock(width, config.channels, 0.0) for _ in range(config.depth)])
        self.map = linear(config.channels * config.patch**2, width, bias=True)

    def forward(self, inputs: Tensor, rows: Tensor, row: Tensor | None) -> Tensor:
        """Accepts inputs of any float dtype."""
        batch, cells = inputs.shape[0], self.config.cells(inputs.to(self.map.weight.dtype))
        rows = self.config.pictures(rows, row, cells, batch)
        x = apply(self.stem, cells)
        for block in self.blocks:
            x = block(x, rows)
        return self.map(self.config.sites(x, batch))


class ConvHeadConfig(ConvShape, HeadConfig):
    """A modulated norm, one linear map per site, convolutions on cells. std 0: outputs start at zero."""

    std: float = Field(default=0.0, ge=0)

    def build(self, width: int, out_width: int, gate_std: float) -> ConvHead:
        """Raises ValueError if the outputs do not fill whole cells."""
        if out_width % self.patch**2:
            raise ValueError(f"{out_width} outputs cannot be divided into patches of {self.patch} x {self.patch} cells")
        return ConvHead(self, width, out_width, gate_std)


class ConvHead(nn.Module):
    """[B, G, n, D] -> [B, S, O]."""

    def __init__(self, config: ConvHeadConfig, width: int, out_width: int, gate_std: float) -> None:
        super().__init__()
        self.config = config
        self.modulation = Modulation(width, 2, gate_std)
        self.map = linear(width, config.channels * config.patch**2, bias=True)
        self.blocks = nn.ModuleList([ConvBlock(width, config.channels, gate_std) for _ in range(config.depth)])
        self.out = conv(config.channels, out_width // config.patch**2)
        nn.init.normal_(self.out.weight, std=config.std) if config.std > 0 else nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, rows: Tensor, row: Tensor | None) -> Tensor:
        """The outputs are float32 or wider."""
        batch = x.shape[0]
        shift, scale = self.modulation(rows, row)
        cells = self.config.cells(self.map(modulate(x, shift, scale).flatten(1, 2)))
        rows = self.config.pictures(rows, row, cells, batch)
        for block in self.blocks:
            cells = block(cells, rows)
        out = self.config.sites(apply(self.out, cells), batch)
        return out.to(torch.promote_types(out.dtype, torch.float32))
