"""Training of an inverse-dynamics model on recorded play, with degraded pictures so that it also works on dreams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from vidar.config import Config
from vidar.nn.inverse_dynamics import InverseDynamicsNet, InverseDynamicsNetConfig, labels
from vidar.rng import Rng
from vidar.train.checks import DryRun, blank
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss, Segment

Share = Annotated[float, Field(gt=0, lt=1)]


class WearConfig(Config):
    """Maximum degradation of a clip; each clip draws its own uniformly below this. Pixels have the range [-1, 1].

    blur: standard deviation in pixels. light: change of brightness. tint: change of brightness per colour channel.
    contrast: factor in 1 +- contrast. noise: standard deviation. intact: share of clips that stay unchanged.
    """

    blur: float = Field(default=2.0, ge=0)
    light: float = Field(default=0.2, ge=0)
    tint: float = Field(default=0.1, ge=0)
    contrast: float = Field(default=0.25, ge=0, lt=1)
    noise: float = Field(default=0.1, ge=0)
    intact: float = Field(default=0.3, ge=0, le=1)


class InverseDynamicsConfig(Config):
    """model: config of the network. shares: frequency of each label, for each group; approximate values suffice.

    wear: augmentation; None: none.
    """

    model: InverseDynamicsNetConfig
    shares: Mapping[str, tuple[Share, ...]]
    wear: WearConfig | None = WearConfig()

    @model_validator(mode="after")
    def _check(self) -> InverseDynamicsConfig:
        wanted = {name: len(group.labels) for name, group in self.model.groups.items()}
        if {name: len(shares) for name, shares in self.shares.items()} != wanted:
            raise ValueError(f"shares: one number for each label of each group is needed: {wanted}")
        return self

    def build(self) -> InverseDynamics:
        """The method."""
        return InverseDynamics(self)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Runs the network on clips."""
        with torch.device("meta"):
            model = self.model.build()
        video = blank(data)
        return DryRun(model, None if video is None else lambda: model(video))


class InverseDynamics:
    """Method `inverse_dynamics`. Every step of a clip that has a full window is a sample."""

    def __init__(self, config: InverseDynamicsConfig) -> None:
        self.config = config

    def build_model(self) -> InverseDynamicsNet:
        """The network with fresh weights."""
        return self.config.model.build()

    def step(self, model: InverseDynamicsNet, batch: Segment, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Balanced cross-entropy summed over the groups, with one Rng per clip. Unknown actions have no loss."""
        config, video = self.config.model, batch.video
        if self.config.wear is not None:
            video = wear(video, self.config.wear, rngs)
        logits = model(video)
        steps = config.steps(video.shape[1])
        truth = labels(batch.actions[:, steps], config.spec, config.groups)
        known = ~batch.unknown[:, steps]
        parts, total = {}, next(iter(logits.values())).new_zeros(())
        for column, (name, value) in enumerate(logits.items()):
            wanted, read = truth[..., column][known], value[known].float()
            loss = balanced_cross_entropy(read, wanted, self.config.shares[name])
            total = total + loss
            parts[name] = loss.detach()
            parts[f"{name}_accuracy"] = (read.argmax(-1) == wanted).float().mean().detach()
        return Loss(total, parts)

    def export(self, model: InverseDynamicsNet, directory: Path) -> None:
        """Write the model directory (bfloat16)."""
        model.save_pretrained(directory, torch.bfloat16)


def balanced_cross_entropy(logits: Tensor, wanted: Tensor, shares: Sequence[float]) -> Tensor:
    """Menon et al., Long-tail learning via logit adjustment (2021), eq. 10: logits [N, K], labels [N] -> scalar.

    shares: frequency of each class. The arg max of the logits is then optimal for balanced accuracy. Class weights have
    the same aim, but then a rare class gives a large gradient in some steps and none in others.
    """
    return F.cross_entropy(logits + logits.new_tensor(shares).log(), wanted)


def wear(video: Tensor, config: WearConfig, rngs: Sequence[Rng]) -> Tensor:
    """Clips uint8 [B, T, H, W, 3] -> float of the same shape in [0, 255]: blurred, tinted, noisy; one Rng per clip.

    Blur varies a little from frame to frame and noise a lot, as in dreams; light, contrast and tint are constant within
    a clip.
    """
    worn = [_worn(clip, config, rng) for clip, rng in zip(video.permute(0, 1, 4, 2, 3), rngs)]
    return torch.stack(worn).permute(0, 1, 3, 4, 2)


def _worn(clip: Tensor, config: WearConfig, rng: Rng) -> Tensor:
    """Degrade one clip, [T, 3, H, W] in [0, 255] -> the same shape."""
    (frames, _, height, width), x = clip.shape, clip.float()
    keep, blur, light, contrast, noise, coarse = rng.uniform("wear", shape=(6,)).tolist()
    if keep < config.intact:
        return x
    x = x / 127.5 - 1
    sigma = config.blur * blur * rng.uniform("wear_blur", shape=(frames,)).mul(0.4).add(0.8).to(x)
    x = gaussian(height, sigma)[:, None] @ x @ gaussian(width, sigma)[:, None].mT
    tint = config.tint * (2 * rng.uniform("wear_tint", shape=(3, 1, 1)).to(x) - 1)
    x = x * (1 + config.contrast * (2 * contrast - 1)) + config.light * (2 * light - 1) + tint
    x = x + config.noise * noise * grain(tuple(x.shape), 4 if coarse < 0.5 else 1, rng).to(x)
    return (x.clamp(-1, 1) + 1) * 127.5


def gaussian(size: int, sigma: Tensor) -> Tensor:
    """Gaussian blur as matrices [T, size, size] whose rows sum to 1, also at the edge; sigma: deviations [T]."""
    at = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = (at[:, None] - at).square() / 2
    return torch.softmax(-distance / sigma.square().clamp_min(1e-3)[:, None, None], -1)


def blurred(frames: Tensor, sigma: float) -> Tensor:
    """uint8 [B, T, H, W, 3] -> uint8 of the same shape, after a Gaussian blur of `sigma` pixels."""
    down, across = (gaussian(size, torch.tensor([sigma]))[0] for size in frames.shape[2:4])
    return torch.einsum("yh,bthwc,xw->btyxc", down, frames.float(), across).round().to(torch.uint8)


def grain(shape: tuple[int, ...], cell: int, rng: Rng) -> Tensor:
    """Standard normal [T, 3, H, W] in squares of `cell` pixels, from a torch generator that is seeded by the key."""
    frames, channels, height, width = shape
    generator = torch.Generator().manual_seed(int(rng.raw("wear_grain", 0, 0, 1)[0] >> 1))
    rows, columns = -(-height // cell), -(-width // cell)
    draw = torch.randn((frames, channels, rows, columns), generator=generator)
    return draw.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :height, :width] if cell > 1 else draw
