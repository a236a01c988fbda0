"""Guidance: outputs with and without a condition, combined after every call.

Ho, Salimans, 2022; Sadat et al., 2024.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.types import UsageError


class GuideConfig(Config):
    """Base class: how outputs with and without a condition are combined."""

    @abstractmethod
    def weights(self, call: int, calls: int, frames: Tensor) -> Tensor:
        """The weight w of call `call` of `calls` (from 0) in frames [B], counting the context: float [B]."""

    @abstractmethod
    def combine(self, out: Tensor, weights: Tensor) -> Tensor:
        """Outputs [2 B, S, O], those without the condition last.

        With weights [B] or [B, S], returns the combined outputs, twice.
        """


class GuidanceConfig(GuideConfig):
    """Classifier-free guidance: none + w (cond - none). w = 1 is cond, w = 0 is none.

    first, last: w at the first and the last call of a frame, linear in between. VAR's (1 + t) cond - t none with t
    from 0 to c is first 1, last 1 + c; Infinity's constant c is first = last = c. fall: w - 1 is multiplied by rest +
    (1 - rest) exp(-frame / fall), because weaker guidance in later frames leaves more motion (VideoAR's temporally
    adjustable guidance; the form is a Choice); None: w is the same in every frame.
    """

    first: float = Field(default=1.0, ge=0)
    last: float = Field(default=1.5, ge=0)
    fall: float | None = Field(default=None, gt=0)
    rest: float = Field(default=0.0, ge=0, le=1)

    def weights(self, call: int, calls: int, frames: Tensor) -> Tensor:
        """The weight w of call `call` of `calls` (from 0) in frames [B], counting the context: float [B]."""
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
    """Adaptive projected guidance (APG; Sadat, Hilliges and Weber, 2024) without its momentum, as in InfinityStar.

    cond - none is shortened to a root mean square of `longest` and split into the component along cond and the rest.
    The rest is added with weight w - 1, the component along cond with weight `along` (w - 1). Large weights then turn
    an output instead of stretching it. Norms and products are over all slots and outputs of a sample, so a call
    should hold one scale.
    """

    weight: float = Field(default=34.0, ge=0)
    longest: float = Field(default=0.05, gt=0)
    along: float = Field(default=0.0, ge=0)

    def weights(self, call: int, calls: int, frames: Tensor) -> Tensor:
        """The weight w of every call, for frames [B]: float [B]."""
        return torch.full(frames.shape, self.weight)

    def combine(self, out: Tensor, weights: Tensor) -> Tensor:
        """Outputs [2 B, ...] as in `guide`; in float32 or wider. Raises UsageError for weights per slot."""
        if weights.ndim > 1:
            raise UsageError(
                "projected guidance needs one weight per call, but units in flight at several steps have several"
            )
        wide = out.to(torch.promote_types(out.dtype, torch.float32))
        cond, none = wide.flatten(1).chunk(2)
        apart = cond - none
        apart = apart * (self.longest / apart.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)).clamp_max(1.0)
        length = cond.square().sum(1, keepdim=True).clamp_min(1e-12)
        along = (apart * cond).sum(1, keepdim=True) / length * cond
        joined = cond + (weights.to(wide)[:, None] - 1) * (apart - along + self.along * along)
        return torch.cat([joined, joined]).view_as(out).to(out.dtype)


def guide(out: Tensor, weights: Tensor) -> Tensor:
    """Outputs [2 B, ...], those without the condition after those with it -> the combined outputs, twice.

    weights: per row [B], or per row and slot [B, S].
    """
    cond, none = out.chunk(2)
    joined = none + weights.to(out).reshape(*weights.shape, *(1,) * (out.ndim - weights.ndim)) * (cond - none)
    return torch.cat([joined, joined])
