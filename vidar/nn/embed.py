"""Embeddings of raw slot inputs: channels, indices, noise levels."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.config import Config


def linear(columns: int, width: int, bias: bool = False, std: float | None = None) -> nn.Linear:
    """A linear layer with truncated normal weights and zero bias.

    Choice: std 1 / sqrt(columns) unless given. This equals the usual 0.02 at width 2500 and is large enough for
    narrow models.
    """
    layer = nn.Linear(columns, width, bias=bias)
    scale = columns**-0.5 if std is None else std
    nn.init.trunc_normal_(layer.weight, std=scale, a=-3 * scale, b=3 * scale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def table(rows: int, width: int, std: float = 1.0) -> nn.Embedding:
    """An embedding table with normal entries; nn.Embedding has no weight decay."""
    layer = nn.Embedding(rows, width)
    nn.init.normal_(layer.weight, std=std)
    return layer


class EmbedConfig(Config):
    """Base class of the configs of input embeddings."""

    @abstractmethod
    def build(self, columns: int, width: int) -> nn.Module:
        """A module (inputs [B, S, columns], rows, row) -> [B, S, width]. Raises ValueError for unsuitable columns."""


class LinearEmbedConfig(EmbedConfig):
    """Channels or bits: one linear map."""

    def build(self, columns: int, width: int) -> LinearEmbed:
        """Raises ValueError without columns."""
        if columns < 1:
            raise ValueError("a linear embedder needs at least one column besides the level")
        return LinearEmbed(columns, width)


class LinearEmbed(nn.Module):
    """[B, S, I] -> [B, S, D]."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.map = linear(columns, width, bias=True)

    def forward(self, inputs: Tensor, rows: Tensor, row: Tensor | None) -> Tensor:
        """Accepts inputs of any float dtype."""
        return self.map(inputs.to(self.map.weight.dtype))


class IndexEmbedConfig(EmbedConfig):
    """One column of indices 0 .. vocabulary - 1, including special tokens."""

    vocabulary: int = Field(ge=1)

    def build(self, columns: int, width: int) -> IndexEmbed:
        """Raises ValueError for more than one column."""
        if columns != 1:
            raise ValueError(f"an index embedder reads one column, not {columns}")
        return IndexEmbed(self.vocabulary, width)


class IndexEmbed(nn.Module):
    """[B, S, 1] -> [B, S, D]."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = table(vocabulary, width)

    def forward(self, inputs: Tensor, rows: Tensor, row: Tensor | None) -> Tensor:
        """Indices stored as floats, exact up to 2^24."""
        return self.table(inputs[..., 0].long())


class LevelConfig(Config):
    """The last input column is a noise level in [0, 1]."""

    num_frequencies: int = Field(default=128, ge=1)
    longest: float = Field(default=10000.0, gt=1)

    def build(self, width: int) -> LevelEmbed:
        """A level embedder."""
        return LevelEmbed(self, width)


class LevelEmbed(nn.Module):
    """Sinusoids of 1000 * level (ADM), then a two-layer MLP."""

    def __init__(self, config: LevelConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.first = linear(2 * config.num_frequencies, width, bias=True)
        self.second = linear(width, width, bias=True)

    def forward(self, level: Tensor) -> Tensor:
        """[B, M] -> [B, M, D]; the sinusoids are computed in float32 or wider."""
        wide = level.to(torch.promote_types(level.dtype, torch.float32))
        count = self.config.num_frequencies
        steps = torch.arange(count, dtype=wide.dtype, device=wide.device)
        angles = 1000.0 * wide[..., None] * torch.exp(-math.log(self.config.longest) * steps / count)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.first.weight.dtype)
        return self.second(F.silu(self.first(waves)))
