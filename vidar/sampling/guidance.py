"""Guidance: answers with and without a condition, joined after every call (Ho, Salimans, 2022; Sadat et al., 2024)."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.types import UsageError


class GuideConfig(Config):
    """Base: how answers with and without a condition are joined."""

    @abstractmethod
    def weights(self, call: int, calls: int, frames: Tensor) -> Tensor:
        """w of call `call` of `calls` (from 0) in frames [B], context counted: float [B]."""

    @abstractmethod
    def combine(self, out: Tensor, weights: Tensor) -> Tensor:
        """Answers [2 B, S, O], those without the condition last; weights [B] or [B, S] -> the joined ones, twice."""


class GuidanceConfig(GuideConfig):
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

    def combine(self, out: Tensor, weights: Tensor) -> Tensor:
        """See `guide`."""
        return guide(out, weights)


class ProjectedGuidanceConfig(GuideConfig):
    """Adaptive projected guidance (APG; Sadat, Hilliges and Weber, 2024), without its momentum, as InfinityStar has it.

    cond - none is shortened to a root mean square of `longest`, then split into what lies along cond and the rest; the
    rest is added w - 1 times, what lies along cond `along` (w - 1) times. Large weights then turn an answer and do not
    stretch it. Norms and products are over all slots and outputs of a sample, so a call should hold one scale.
    """

    weight: float = Field(default=34.0, ge=0)
    longest: float = Field(default=0.05, gt=0)
    along: float = Field(default=0.0, ge=0)

    def weights(self, call: int, calls: int, frames: Tensor) -> Tensor:
        """w of every call, for frames [B]: float [B]."""
        return torch.full(frames.shape, self.weight)

    def combine(self, out: Tensor, weights: Tensor) -> Tensor:
        """Answers [2 B, ...] as of `guide`; in float32 or wider. Raises UsageError for weights by slot."""
        if weights.ndim > 1:
            raise UsageError("projected guidance has one weight a call; units in flight at several steps have several")
        wide = out.to(torch.promote_types(out.dtype, torch.float32))
        cond, none = wide.flatten(1).chunk(2)
        apart = cond - none
        apart = apart * (self.longest / apart.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)).clamp_max(1.0)
        length = cond.square().sum(1, keepdim=True).clamp_min(1e-12)
        along = (apart * cond).sum(1, keepdim=True) / length * cond
        joined = cond + (weights.to(wide)[:, None] - 1) * (apart - along + self.along * along)
        return torch.cat([joined, joined]).view_as(out).to(out.dtype)


def guide(out: Tensor, weights: Tensor) -> Tensor:
    """Answers [2 B, ...], those without the condition after those with it -> the joined ones, twice.

    weights: of rows [B], or of rows and slots [B, S].
    """
    cond, none = out.chunk(2)
    joined = none + weights.to(out).reshape(*weights.shape, *(1,) * (out.ndim - weights.ndim)) * (cond - none)
    return torch.cat([joined, joined])
