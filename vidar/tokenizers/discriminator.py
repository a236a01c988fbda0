"""Optional adversaries of an autoencoder: PatchGANs on single frames and on clips with hinge losses (as in
InfinityStar).

Two regularisers keep them from winning too early: R1 (Mescheder et al., "Which training methods for GANs do actually
converge?", 2018) and LeCAM (Tseng et al., "Regularizing generative adversarial networks under limited data", 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vidar.config import Config
from vidar.tokenizers.perceptual import laplacian
from vidar.tokenizers.vq import exact
from vidar.types import Loss


class DiscriminatorConfig(Config):
    """weight: of the adversarial loss after `start` + `warmup` steps.

    detail: factor of the Laplacian of the frame, which the network receives in addition to the frame; 0: none.
    Choice: fine texture is small compared to the frame, and an adversary that must find it first is slow.

    r1: weight of half the squared gradient of real scores, computed every `r1_every` steps with that many times the
    weight (StyleGAN2). lecam: weight of LeCAM (InfinityStar: 0.05), whose anchors move by `lecam_decay`. 0: none.
    """

    width: int = Field(default=32, ge=1)
    num_layers: int = Field(default=3, ge=1)
    detail: float = Field(default=0.0, ge=0)
    weight: float = 0.1
    adaptive: bool = False  # VQGAN (Esser et al. 2021, eq. 7): scale the weight by the ratio of gradient norms
    start: int = Field(default=2000, ge=0)
    warmup: int = Field(default=1000, ge=1)
    r1: float = Field(default=0.0, ge=0)
    r1_every: int = Field(default=16, ge=1)
    lecam: float = Field(default=0.0, ge=0)
    lecam_decay: float = Field(default=0.99, ge=0, lt=1)

    def build(self) -> Discriminator:
        """A new discriminator with random weights."""
        return Discriminator(self)


class Discriminator(nn.Module):
    """PatchGAN (Isola et al., "Image-to-image translation", 2017): one score per patch.

    It has no norm across samples.

    time_kernel 1 judges every frame separately, 3 judges clips by convolutions in space and time. Choice: symmetric
    in time, because clips are judged as a whole; the first layer keeps all frames, each further layer halves their
    number.
    """

    steps: Tensor
    anchors: Tensor
    updates: Tensor

    def __init__(self, config: DiscriminatorConfig, video_channels: int = 3, time_kernel: Literal[1, 3] = 1) -> None:
        super().__init__()
        self.config = config
        self.time_kernel = time_kernel
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        if config.lecam:
            self.register_buffer("anchors", torch.zeros(2))  # running means of D(x) and D(x^)
            self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        layers: list[nn.Module] = []
        channels = video_channels * (2 if config.detail else 1)
        for level in range(config.num_layers):
            width = config.width * 2 ** min(level, 3)
            layers += [self._conv(channels, width, level), nn.LeakyReLU(0.2)]
            channels = width
        self.layers = nn.Sequential(*layers, self._head(channels))
        self.forget()

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> one score per patch: of frames [B T, 1, h, w], of clips [B, 1, t, h, w]."""
        frames = video.transpose(1, 2).flatten(0, 1)
        if self.config.detail:
            edges = self.config.detail * F.pad(laplacian(frames), (1, 1, 1, 1))
            frames = torch.cat([frames, edges], dim=1)
        if self.time_kernel == 1:
            return self.layers(frames)
        return self.layers(frames.unflatten(0, (len(video), -1)).transpose(1, 2))

    def ramp(self) -> Tensor:
        """0 before step `start`, then rising to 1 over `warmup` steps."""
        return ((self.steps - self.config.start) / self.config.warmup).clamp(0, 1)

    def loss(self, video: Tensor, out: Tensor) -> Loss:
        """The discriminator's own loss on real and generated video [B, 3, T, H, W].

        In training it counts its steps; every `r1_every`-th step, from the first on, includes R1.
        """
        config = self.config
        scores = self(video), self(out.detach())
        real, fake = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in scores)
        parts = {"adversary": discriminator_hinge(real, fake)}
        total = parts["adversary"]
        due = self.training and (self.steps.is_meta or int(self.steps) % config.r1_every == 0)
        if config.r1 and due:
            parts["r1"] = r1_penalty(self, video)
            total = total + config.r1_every * config.r1 / 2 * parts["r1"]
        if config.lecam:
            parts["lecam"] = (self.updates > 0) * lecam_penalty(real, fake, self.anchors[0], self.anchors[1])
            total = total + config.lecam * parts["lecam"]
            if self.training:
                self._seen.append(torch.stack([real.mean(), fake.mean()]).detach().to(self.anchors))
        if self.training:
            self.steps += 1
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    @torch.no_grad()
    def update(self) -> None:
        """Called once per optimiser step: move the anchors to the mean scores of the step. The first call sets them."""
        if self._seen:
            means = torch.stack(self._seen).mean(dim=0)
            keep = self.config.lecam_decay if int(self.updates) else 0.0
            self.anchors.lerp_(means, 1 - keep)
            self.updates += 1
        self.forget()

    def forget(self) -> None:
        """Drop the scores seen since the last `update`."""
        self._seen: list[Tensor] = []

    def _conv(self, channels: int, width: int, level: int) -> nn.Module:
        if self.time_kernel == 1:
            return nn.Conv2d(channels, width, 4, stride=2, padding=1)
        stride = (2 if level else 1, 2, 2)
        return nn.Conv3d(channels, width, (self.time_kernel, 4, 4), stride, padding=(self.time_kernel // 2, 1, 1))

    def _head(self, channels: int) -> nn.Module:
        conv = nn.Conv2d if self.time_kernel == 1 else nn.Conv3d
        return conv(channels, 1, 3, padding=1)


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """0.5 (mean relu(1 - D(x)) + mean relu(1 + D(x^))), a scalar, for scores of any shape."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_hinge(fake: Tensor) -> Tensor:
    """- mean D(x^), a scalar, for scores of any shape."""
    return -fake.mean()


def r1_penalty(judge: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """E |grad_x D(x)|^2 on real samples, differentiable in the weights, in float32.

    Choice: for several scores, the squared gradient of their sum divided by their number. This is the mean of the
    squared gradients of single scores if patches do not overlap, so the weight does not depend on the size of the
    video.
    """
    with exact(real.device):
        real = real.detach().requires_grad_()
        scores = judge(real)
        (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return gradient.square().sum() / scores.numel()


def lecam_penalty(real: Tensor, fake: Tensor, anchor_real: Tensor, anchor_fake: Tensor) -> Tensor:
    """E relu(D(x) - a_F)^2 + E relu(a_R - D(x^))^2: penalises scores far beyond the running mean of the other side.

    real, fake: scores of any shape; anchor_real, anchor_fake: scalars.
    """
    return F.relu(real - anchor_fake).square().mean() + F.relu(anchor_real - fake).square().mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_weight: Tensor) -> Tensor:
    """|grad of reconstruction| / (|grad of adversarial| + 1e-4) at the last layer, at most 1e4, detached."""
    rec = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)[0].norm()
    adv = torch.autograd.grad(adversarial, last_weight, retain_graph=True)[0].norm()
    return (rec / (adv + 1e-4)).clamp(0, 1e4).detach()
