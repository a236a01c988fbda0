"""Context that is worn in ways the model is not told of, so that it learns to trust what does not wear: its memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.rng import Rng


class WornContextConfig(Config):
    """Noise on what later frames see of a frame, unlike `ContextNoiseConfig` without its level.

    share: of the clips. most: the largest standard deviation; each clip draws its own. The noise is a mixture
    of four kinds, in drawn proportions: one value for each latent and frame; one for each latent; one for each site and
    channel; one for each channel. The last three are the same in all frames, and grow along the clip by a drawn factor,
    as the errors of a rollout do. Compare GameNGen (Valevski et al., 2024), whose noise is told and up to 0.7.
    """

    share: float = Field(default=0.6, ge=0, le=1)
    most: float = Field(default=1.0, ge=0)


def worn(codes: Tensor, config: WornContextConfig, patch: int, rngs: Sequence[Rng]) -> Tensor:
    """Codes [B, T, n, C p p] -> the same with noise, with one Rng per clip. patch: p."""
    made = [_worn(clip, config, patch, rng) for clip, rng in zip(codes, rngs, strict=True)]
    return torch.stack(made)


def _worn(clip: Tensor, config: WornContextConfig, patch: int, rng: Rng) -> Tensor:
    share, most, first, growth = rng.uniform("worn_amount", shape=(4,)).tolist()
    if share >= config.share:
        return clip
    frames, sites, width = clip.shape
    weights = rng.uniform("worn_kinds", shape=(4,)).to(clip)
    weights = weights / weights.square().sum().sqrt()
    channels = width // patch**2
    shapes = (frames, sites, width), (sites, width), (sites, channels), (1, channels)
    kinds = [rng.normal("worn", kind, shape=shape).to(clip) for kind, shape in enumerate(shapes)]
    kinds[2:] = [kind.repeat_interleave(patch**2, -1) for kind in kinds[2:]]  # sites are channel-major
    grown = (first + growth * torch.linspace(0, 1, frames)).to(clip)[:, None, None]
    noise = weights[0] * kinds[0] + grown * sum(weight * kind for weight, kind in zip(weights[1:], kinds[1:]))
    return clip + config.most * most * noise
