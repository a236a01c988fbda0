"""Context transforms: what later units see of a unit. Training and play use the same object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidar.objectives.protocols import ContextConfig
from vidar.objectives.rows import Units
from vidar.rng import Ahead, Rng, every, uniforms


class CleanConfig(ContextConfig):
    """Teacher forcing: later units see the clean code of a unit."""

    def build(self) -> Clean:
        """The transform."""
        return Clean()


class Clean:
    """The code is unchanged, its level is 0."""

    def __call__(self, unit: int, code: Tensor, rng: Rng, play: bool) -> tuple[Tensor, float]:
        """Return `code` and level 0."""
        return code, self.level(unit, rng, play)

    def level(self, unit: int, rng: Rng, play: bool) -> float:
        """0."""
        return 0.0

    def levels(self, units: Sequence[int], rngs: Sequence[Rng], play: bool) -> Tensor:
        """Zeros, float64 [B, U], for every row and unit."""
        return torch.zeros(len(rngs), len(units), dtype=torch.float64)

    def of_units(self, units: Units, codes: Tensor, levels: Tensor, rngs: Sequence[Rng]) -> Tensor:
        """Return `codes` [B, P, C]."""
        return codes


class ContextNoiseConfig(ContextConfig):
    """Adds noise to what later units see; the model receives its level (NFD, section 3.3; Diffusion Forcing).

    Training draws the level uniformly from [0, most]; play uses `level`, which must lie in that range. Choice: most
    0.3 and level 0.05; the papers only give the range 0.02-0.1 for play.
    """

    most: float = 0.3
    level: float = 0.05

    def build(self) -> ContextNoise:
        """The transform."""
        return ContextNoise(self)


class ContextNoise:
    """(1 - s) code + s noise."""

    def __init__(self, config: ContextNoiseConfig):
        if not 0 <= config.level <= config.most < 1:
            raise ValueError(f"context level {config.level} must lie in [0, most={config.most}], with most below 1")
        self.config, self._noise = config, Ahead("context")

    def __call__(self, unit: int, code: Tensor, rng: Rng, play: bool) -> tuple[Tensor, float]:
        """code [n, C] -> (noisy code [n, C], level)."""
        level = self.level(unit, rng, play)
        return (1 - level) * code + level * self._noise.normal(rng, unit, code.shape).to(code), level

    def level(self, unit: int, rng: Rng, play: bool) -> float:
        """The fixed level in play, a uniformly drawn one in training."""
        return self.config.level if play else self.config.most * float(rng.uniform("context_level", unit))

    def levels(self, units: Sequence[int], rngs: Sequence[Rng], play: bool) -> Tensor:
        """Levels of every row and unit, float64 [B, U]."""
        if play:
            return torch.full((len(rngs), len(units)), self.config.level, dtype=torch.float64)
        drawn = uniforms(every(rngs, units), "context_level")
        return self.config.most * drawn.unflatten(0, (len(rngs), len(units)))

    def of_units(self, units: Units, codes: Tensor, levels: Tensor, rngs: Sequence[Rng]) -> Tensor:
        """Codes [B, P, C] of units with levels [B, U] -> noisy codes."""
        return mixed(codes, units.normals(rngs, "context", codes), levels[:, units.number])


def mixed(x0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """(1 - s) x0 + s e for [B, n, C] and levels float64 [B, n]."""
    return ((1 - level).to(x0)[..., None] * x0).add_(level.to(x0)[..., None] * noise)


def with_level(x: Tensor, level: float) -> Tensor:
    """[n, C] -> [n, C + 1], with the level in the last column."""
    return torch.cat([x, x.new_full((x.shape[0], 1), level)], dim=-1)


def with_levels(x: Tensor, levels: Tensor) -> Tensor:
    """[B, n, C] with levels [B, n] -> [B, n, C + 1]."""
    return torch.cat([x, levels[..., None].to(x)], dim=-1)
