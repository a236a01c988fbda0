"""Training of an inverse-dynamics model on recorded play, on pictures made worse so that it also reads dreams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.nn.inverse_dynamics import InverseDynamicsNet, InverseDynamicsNetConfig, labels
from vidar.rng import Rng
from vidar.types import Loss, Segment


class WearConfig(Config):
    """How much worse a clip becomes, at most; what a clip gets is uniform below it.

    blur: deviation in pixels. light: brightness, of the range of 2. contrast: factor in 1 +- contrast. noise: deviation.
    intact: share of the clips that stay as they are.
    """

    blur: float = Field(2.0, ge=0)
    light: float = Field(0.2, ge=0)
    contrast: float = Field(0.25, ge=0, lt=1)
    noise: float = Field(0.1, ge=0)
    intact: float = Field(0.3, ge=0, le=1)


class InverseDynamicsConfig(Config):
    """model: what is trained. wear: augmentation, None to leave it out."""

    model: InverseDynamicsNetConfig
    wear: WearConfig | None = WearConfig()

    def build(self) -> InverseDynamics:
        """The method; `build_model` gives what it trains."""
        return InverseDynamics(self)


class InverseDynamics:
    """Method `inverse_dynamics`. Every step of a clip that has a full window is a sample."""

    def __init__(self, config: InverseDynamicsConfig) -> None:
        self.config = config

    def build_model(self) -> InverseDynamicsNet:
        """What is trained."""
        return self.config.model.build()

    def step(self, model: InverseDynamicsNet, batch: Segment, rngs: Sequence[Rng]) -> Loss:
        """Cross-entropy summed over the groups; one Rng per clip. Action 0 of a clip is unknown and never asked.

        Choice: mean over the classes of the batch of the mean over the steps of a class, as in balanced accuracy.
        """
        config = self.config.model
        video = batch.video.to(next(model.parameters()).device)
        if self.config.wear is not None:
            video = wear(video, self.config.wear, rngs)
        logits = model(video)
        steps = config.steps(video.shape[1])
        truth = labels(batch.actions[:, steps], config.spec, config.groups).to(video.device)
        known = ~batch.unknown[:, steps].to(video.device)
        parts, total = {}, next(iter(logits.values())).new_zeros(())
        for column, (name, value) in enumerate(logits.items()):
            wanted, read = truth[..., column][known], value[known].float()
            loss = balanced_cross_entropy(read, wanted)
            total = total + loss
            parts[name] = loss.detach()
            parts[f"{name}_accuracy"] = (read.argmax(-1) == wanted).float().mean().detach()
        return Loss(total, parts)

    def export(self, model: InverseDynamicsNet, directory: Path) -> None:
        """Write the model directory."""
        model.save_pretrained(directory)


def balanced_cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Logits [N, K], labels [N] -> scalar: every class that occurs has the same weight."""
    each = F.cross_entropy(logits, wanted, reduction="none")
    count = torch.bincount(wanted, minlength=logits.shape[1])
    return (each / count[wanted]).sum() / (count > 0).sum()


def wear(video: Tensor, config: WearConfig, rngs: Sequence[Rng]) -> Tensor:
    """Clips uint8 [B, T, H, W, 3] -> float of the same shape in [0, 255]: blurred, relit, noisy; one Rng per clip.

    Blur varies a little from frame to frame and noise a lot, as they do in a dream; light and contrast are the clip's.
    """
    frames, height, width = video.shape[1:4]
    worn = []
    for clip, rng in zip(video, rngs):
        keep, blur, light, contrast, noise, coarse = rng.uniform("level", shape=(6,)).tolist()
        x = clip.float() / 127.5 - 1
        if keep < config.intact:
            worn.append(x)
            continue
        sigma = config.blur * blur * rng.uniform("level", step=1, shape=(frames,)).mul(0.4).add(0.8).to(x)
        x = torch.einsum("tyh,thwc->tywc", gaussian(height, sigma), x)
        x = torch.einsum("txw,tywc->tyxc", gaussian(width, sigma), x)
        x = x * (1 + config.contrast * (2 * contrast - 1)) + config.light * (2 * light - 1)
        worn.append(x + config.noise * noise * grain(tuple(x.shape), 4 if coarse < 0.5 else 1, rng).to(x))
    return (torch.stack(worn).clamp(-1, 1) + 1) * 127.5


def gaussian(size: int, sigma: Tensor) -> Tensor:
    """Blur of `size` samples as matrices [T, size, size], rows sum to 1 (also at the edge), for deviations [T]."""
    at = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = (at[:, None] - at).square() / 2
    return torch.softmax(-distance / sigma.square().clamp_min(1e-3)[:, None, None], -1)


def grain(shape: tuple[int, ...], cell: int, rng: Rng) -> Tensor:
    """Standard normal [T, H, W, 3] in squares of `cell` pixels. The torch generator lives for one draw, from the key."""
    frames, height, width, channels = shape
    generator = torch.Generator().manual_seed(int(rng.raw("renoise", 0, 0, 1)[0] >> 1))
    rows, columns = -(-height // cell), -(-width // cell)
    draw = torch.randn((frames, rows, columns, channels), generator=generator)
    return draw.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :height, :width]
