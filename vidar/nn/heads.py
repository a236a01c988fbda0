"""Heads: from the width of a backbone to the outputs of an objective."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from vidar.config import Config
from vidar.nn.block import Modulation
from vidar.nn.embed import linear
from vidar.nn.norm import modulate


class HeadConfig(Config):
    """Base class of the configs of heads."""

    @abstractmethod
    def build(self, width: int, out_width: int, gate_std: float) -> nn.Module:
        """A module (x [B, G, n, width], rows, row) -> [B, S, out_width]. Raises ValueError for an unsuitable width."""


class LinearHeadConfig(HeadConfig):
    """A modulated norm and one linear map. std 0: outputs start at zero."""

    std: float = Field(default=0.0, ge=0)

    def build(self, width: int, out_width: int, gate_std: float) -> LinearHead:
        """A head of `out_width` columns."""
        return LinearHead(width, out_width, self.std, gate_std)


class LinearHead(nn.Module):
    """[B, G, n, D] -> [B, S, O]."""

    def __init__(self, width: int, out_width: int, std: float, gate_std: float) -> None:
        super().__init__()
        self.modulation = Modulation(width, 2, gate_std)
        self.map = linear(width, out_width, bias=True, std=std) if std > 0 else nn.Linear(width, out_width)
        if std == 0:
            nn.init.zeros_(self.map.weight)
            nn.init.zeros_(self.map.bias)

    def forward(self, x: Tensor, rows: Tensor, row: Tensor | None) -> Tensor:
        """The outputs are float32 or wider."""
        shift, scale = self.modulation(rows, row)
        out = self.map(modulate(x, shift, scale).flatten(1, 2))
        return out.to(torch.promote_types(out.dtype, torch.float32))
