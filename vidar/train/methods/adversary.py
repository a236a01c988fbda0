"""Adversarial term of a student: its frames, noised again, must give the features of real frames in its teacher.

LADD (Sauer et al., "Fast High-Resolution Image Synthesis with Latent Adversarial Diffusion Distillation", 2024) with
hinge losses, as Next-Frame Diffusion (NFD+, Cheng et al., 2025) adds it to consistency distillation. The discriminator
consists of small heads on the outputs of some blocks of the frozen teacher; only the heads are trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.nn.embed import linear
from vidar.nn.norm import RMSNorm
from vidar.tokenizers.discriminator import discriminator_hinge, generator_hinge

Features = Callable[[Tensor, Tensor], list[Tensor]]  # x [.., C], level [.., 1] -> [.., D] per judged block


class AdversaryConfig(Config):
    """blocks: numbers (from 0) of the teacher's blocks whose outputs are judged. width: D of the teacher.

    hidden: hidden width of a head. weight: lambda of the term after `start` + `warmup` steps. mean, std: of the
    logit-normal level to which frames are noised again. Choice: lambda 0.1, because NFD+ does not state it; levels
    around 0.73, where shapes matter and grain is hidden; a late start, so that the heads do not learn from the first
    outputs of the student.
    """

    blocks: tuple[int, ...] = Field(min_length=1)
    width: int = Field(ge=1)
    hidden: int = Field(default=64, ge=1)
    weight: float = Field(default=0.1, ge=0)
    mean: float = 1.0
    std: float = Field(default=1.0, gt=0)
    start: int = Field(default=500, ge=0)
    warmup: int = Field(default=500, ge=1)

    def build(self) -> Judge:
        """Heads with fresh weights."""
        return Judge(self)

    def lambda_at(self, steps: Tensor) -> Tensor:
        """The weight of the term: 0 before `start`, then rising to `weight` over `warmup` steps."""
        return self.weight * ((steps - self.start) / self.warmup).clamp(0, 1)


class Judge(nn.Module):
    """One score per site and judged block, high for real frames: features [.., D] per block -> [.., blocks].

    Choice: a norm and a two-layer MLP per block. The heads do not receive the level, because the teacher modulates the
    features by it.
    """

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        heads: list[nn.Module] = []
        for _ in config.blocks:
            first, last = linear(config.width, config.hidden, bias=True), linear(config.hidden, 1, bias=True)
            heads.append(nn.Sequential(RMSNorm(config.width), first, nn.SiLU(), last))
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See the class."""
        return torch.cat([head(part) for head, part in zip(self.heads, features, strict=True)], dim=-1)


class Student(nn.Module):
    """The trained and saved modules of a distillation: the network, its step count, and its adversary if there is one.

    critic: for distribution matching, a network that is trained on the student's outputs. One optimiser trains all
    modules; no loss reaches the weights of another module.
    """

    steps: Tensor

    def __init__(self, net: WorldNet, judge: Judge | None, critic: WorldNet | None = None) -> None:
        super().__init__()
        self.net, self.judge, self.critic = net, judge, critic
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the parts of the networks in place."""
        self.net.compile(*args, **kwargs)
        if self.critic is not None:
            self.critic.compile(*args, **kwargs)


def product(model: WorldNet | Student) -> WorldNet:
    """The network of a trained model, which is exported."""
    return model.net if isinstance(model, Student) else model


def hinge_terms(
    judge: Judge, features: Features, real: Tensor, fake: Tensor, level: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """(loss of the student, loss of the adversary) on real and fake frames [.., C], noised to level [.., 1].

    Gradients of the first reach only `fake`, those of the second only the judge. Choice: real and fake frames have the
    same level and noise, so that they differ only in the frame.
    """
    seen = features((1 - level) * fake + level * noise, level)
    with torch.no_grad():
        true = features((1 - level) * real + level * noise, level)
    frozen = {name: value.detach() for name, value in judge.named_parameters()}
    student = generator_hinge(functional_call(judge, frozen, (seen,)))
    return student, discriminator_hinge(judge(true), judge([part.detach() for part in seen]))
