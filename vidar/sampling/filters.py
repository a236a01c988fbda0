"""Filters of logits before a label is drawn: temperature, top-k, top-p. Each is (logits, history) -> logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config

Filter = Callable[[Tensor, Any], Tensor]


class TemperatureConfig(Config):
    """Logits over `value`: below 1 the likely labels become likelier."""

    value: float = Field(default=1.0, gt=0)

    def build(self) -> Filter:
        """The filter."""
        return lambda logits, history: logits / self.value


class TopKConfig(Config):
    """Only the `count` likeliest labels; of equal ones on the border all stay."""

    count: int = Field(ge=1)

    def build(self) -> Filter:
        """The filter."""

        def top_k(logits: Tensor, history: Any) -> Tensor:
            least = logits.topk(min(self.count, logits.shape[-1]), dim=-1).values[..., -1:]
            return logits.masked_fill(logits < least, -torch.inf)

        return top_k


class TopPConfig(Config):
    """The likeliest labels whose probabilities reach `share` together (nucleus; Holtzman et al. 2020)."""

    share: float = Field(gt=0, le=1)

    def build(self) -> Filter:
        """The filter."""

        def top_p(logits: Tensor, history: Any) -> Tensor:
            order = logits.sort(dim=-1, descending=True)
            probability = order.values.softmax(dim=-1)
            before = probability.cumsum(dim=-1) - probability  # of the likelier ones; the likeliest always stays
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order.indices, before >= self.share)
            return logits.masked_fill(dropped, -torch.inf)

        return top_p
