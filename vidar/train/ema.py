"""Exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """`model` is the averaged copy, always in eval mode: e <- d e + (1 - d) p after each update; buffers are copied.

    Choice: d = min(decay, (1 + n) / (10 + n)) at update n (from 0), so that initial weights do not dominate short runs.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._averaged: list[Tensor] = list(self.model.parameters())
        self._trained: list[Tensor] = list(model.parameters())
        self._buffers = list(zip(self.model.buffers(), model.buffers()))

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Update the average with the current weights; `count` is the number of earlier updates."""
        decay = min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(self._averaged, self._trained, 1.0 - decay)  # pyright: ignore[reportPrivateUsage]
        for mine, theirs in self._buffers:
            mine.copy_(theirs)
