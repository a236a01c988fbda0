"""One label per batch row (class, game, style) -> modulation rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.config import Config
from vidar.core.layout import Layout
from vidar.nn.embed import linear, table
from vidar.types import Cond


@dataclass(frozen=True)
class Labels:
    """values long [B] in 0 .. num_labels - 1; none bool [B]: no label (dropout, guidance), whatever the value is."""

    values: Tensor
    none: Tensor


class LabelEmbedConfig(Config):
    """How many labels there are."""

    num_labels: int = Field(ge=1)
    width: int = Field(ge=1)

    def build(self) -> LabelEmbed:
        """An embedder with fresh weights."""
        return LabelEmbed(self)


class LabelEmbed(nn.Module):
    """A table with one more entry for "no label", then a two-layer MLP with SiLU."""

    def __init__(self, config: LabelEmbedConfig) -> None:
        super().__init__()
        self.config = config
        self.table = table(config.num_labels + 1, config.width)
        self.first = linear(config.width, config.width, bias=True)
        self.second = linear(config.width, config.width, bias=True)

    def forward(self, conditions: Labels, layout: Layout) -> Cond:
        """Modulation [B, M, D], the same for every row of the layout."""
        index = torch.where(conditions.none, self.config.num_labels, conditions.values)
        made = self.second(F.silu(self.first(self.table(index))))
        return Cond(modulation=made[:, None].expand(-1, layout.num_rows, -1))
