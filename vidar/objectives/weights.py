"""Loss weights by noise level: the loss is the mean of weight x error.

The mean is over the slots with a target, not over their weights. Levels with a larger weight therefore count more
even in a clip whose frames all have the same level.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config

Weight = Callable[[Tensor], Tensor]  # levels [B, S] -> [B, S]


class WeightConfig(Config):
    """Base of the configs of weights."""

    @abstractmethod
    def build(self) -> Weight | None:
        """The weight; None where all levels count alike, in objectives that know no level too."""


class EvenWeightConfig(WeightConfig):
    """All levels alike."""

    def build(self) -> None:
        """No weight."""


class BellWeightConfig(WeightConfig):
    """A bell around the middle level (MMPL, planning-memory-control 1.5; Self Forcing).

    w(t) = y(t) - min y, scaled to mean 1 over the table; y(t) = exp(-2 ((t - n / 2) / n)^2), t = n sigma. The table
    is that of the scheduler: sigma_i = 1 - i / n, shifted. n: entries of the table. shift: of the table.
    """

    n: int = Field(default=1000, ge=2)
    shift: float = Field(default=5.0, gt=0)

    def build(self) -> BellWeight:
        """The weight."""
        return BellWeight(self)


class BellWeight:
    """The formula at any level, clipped to 0 where it would be negative (between the last entry and 0)."""

    def __init__(self, config: BellWeightConfig):
        sigma = 1 - torch.arange(config.n, dtype=torch.float64) / config.n
        bell = self._bell(config.shift * sigma / (1 + (config.shift - 1) * sigma))
        self.least, self.mean = float(bell.min()), float((bell - bell.min()).mean())

    @staticmethod
    def _bell(level: Tensor) -> Tensor:
        return torch.exp(-2 * (level - 0.5) ** 2)

    def __call__(self, level: Tensor) -> Tensor:
        """[B, S] -> [B, S]."""
        return ((self._bell(level) - self.least) / self.mean).clamp(min=0)
