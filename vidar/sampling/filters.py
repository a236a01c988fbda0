"""Filters of logits before sampling: temperature, top-k, top-p. Each maps (logits, history) to logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config

Filter = Callable[[Tensor, Any], Tensor]


class TemperatureConfig(Config):
    """Divide the logits by `value`; below 1, likely labels become more likely."""

    value: float = Field(default=1.0, gt=0)

    def build(self) -> Filter:
        """The filter."""
        return lambda logits, history: logits / self.value


class TopKConfig(Config):
    """Keep only the `count` most likely labels; ties at the border all stay."""

    count: int = Field(ge=1)

    def build(self) -> Filter:
        """The filter."""

        def top_k(logits: Tensor, history: Any) -> Tensor:
            least = logits.topk(min(self.count, logits.shape[-1]), dim=-1).values[..., -1:]
            return logits.masked_fill(logits < least, -torch.inf)

        return top_k


class TopPConfig(Config):
    """Keep the most likely labels whose probabilities sum up to `share` (nucleus sampling; Holtzman et al. 2020)."""

    share: float = Field(gt=0, le=1)

    def build(self) -> Filter:
        """The filter."""

        def top_p(logits: Tensor, history: Any) -> Tensor:
            order = logits.sort(dim=-1, descending=True)
            probability = order.values.softmax(dim=-1)
            before = probability.cumsum(dim=-1) - probability  # sum of the likelier labels; the likeliest always stays
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order.indices, before >= self.share)
            return logits.masked_fill(dropped, -torch.inf)

        return top_p
