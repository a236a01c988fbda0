"""Classifier-free guidance: answers with and without a condition, joined after every call (Ho and Salimans, 2022)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config


class GuidanceConfig(Config):
    """What is joined is none + w (cond - none): 1 leaves cond as it is, 0 is none.

    first, last: w at the first and the last call of a frame, linear in between. VAR's (1 + t) cond - t none with t from
    0 to c is first 1, last 1 + c; Infinity's constant c is first = last = c. fall: w - 1 times rest + (1 - rest)
    exp(-frame / fall), since weaker guidance in later frames leaves more motion (VideoAR's temporally adjustable
    guidance; the form is a Choice); None: w is that of every frame.
    """

    first: float = Field(default=1.0, ge=0)
    last: float = Field(default=1.5, ge=0)
    fall: float | None = Field(default=None, gt=0)
    rest: float = Field(default=0.0, ge=0, le=1)

    def weights(self, call: int, calls: int, frames: Tensor) -> Tensor:
        """w of call `call` of `calls` (from 0) in frames [B], context counted: float [B]."""
        share = call / (calls - 1) if calls > 1 else 1.0
        excess = self.first + (self.last - self.first) * share - 1
        time = torch.ones(frames.shape)
        if self.fall is not None:
            time = self.rest + (1 - self.rest) * torch.exp(-frames / self.fall)
        return 1 + excess * time


def guide(out: Tensor, weights: Tensor) -> Tensor:
    """Answers [2 B, ...], those without the condition after those with it -> the joined ones, twice."""
    cond, none = out.chunk(2)
    joined = none + weights.to(out).reshape(-1, *(1,) * (out.ndim - 1)) * (cond - none)
    return torch.cat([joined, joined])
