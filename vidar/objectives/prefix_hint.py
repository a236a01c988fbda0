"""Chunks after a clean prefix: the last frame before a chunk as further input channels of its frames."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from vidar.core.relation import Rule
from vidar.objectives.hint import Committed, HintConfig


class PrefixHintConfig(HintConfig):
    """chunk, first: as in the order. With `DataConfig` the network learns the change since the last known frame.

    Choice: Ca2-VDM has no such hint and reads its prefix by attention only; small worlds learn faster with it. A
    clean frame carries the hint of its chunk as well, as in play, where what is committed is known before the clip
    continues.
    """

    chunk: int = Field(ge=1)
    first: int = Field(default=1, ge=1)

    def build(self, channels: int) -> PrefixHint:
        """The hint."""
        return PrefixHint(channels, self.chunk, self.first)


class PrefixHint:
    """C columns; the input of a frame needs the code of the last frame before its chunk. Zero if there is none."""

    def __init__(self, channels: int, chunk: int, first: int):
        self.width = channels

        def needs(q: Tensor, k: Tensor) -> Tensor:
            return k == (q - first).div(chunk, rounding_mode="floor") * chunk + first - 1

        self.needs: Rule = needs
        self.chunk, self.first = chunk, first

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, C]."""
        last = (unit - self.first) // self.chunk * self.chunk + self.first - 1
        return committed(last) if last >= 0 else torch.zeros_like(like)
