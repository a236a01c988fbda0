"""Optional adversary of an autoencoder: a PatchGAN on single frames with hinge losses (scale-wise 2.7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vidar.config import Config
from vidar.tokenizers.perceptual import laplacian


class DiscriminatorConfig(Config):
    """weight: of the adversarial term once `start` + `warmup` steps have passed.

    detail: factor of the Laplacian of the frame, given to the network beside the frame; 0: no such. Choice: fine
    texture is small beside the frame, and an adversary that has to find it first is slow.
    """

    width: int = Field(32, ge=1)
    num_layers: int = Field(3, ge=1)
    detail: float = Field(0.0, ge=0)
    weight: float = 0.1
    adaptive: bool = False  # VQGAN (Esser et al. 2021, eq. 7): scale the weight by the ratio of gradient norms
    start: int = Field(2000, ge=0)
    warmup: int = Field(1000, ge=1)

    def build(self) -> Discriminator:
        """A new discriminator with random weights."""
        return Discriminator(self)


class Discriminator(nn.Module):
    """Isola et al., "Image-to-image translation", 2017: a score per patch. No norm: frames of a batch stay apart."""

    steps: Tensor

    def __init__(self, config: DiscriminatorConfig, video_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        layers: list[nn.Module] = []
        channels = video_channels * (2 if config.detail else 1)
        for level in range(config.num_layers):
            width = config.width * 2 ** min(level, 3)
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> scores [B T, 1, h, w], one per patch of each frame."""
        frames = video.transpose(1, 2).flatten(0, 1)
        if self.config.detail:
            edges = self.config.detail * F.pad(laplacian(frames), (1, 1, 1, 1))
            frames = torch.cat([frames, edges], dim=1)
        return self.layers(frames)

    def ramp(self) -> Tensor:
        """0 before `start`, then rising to 1 over `warmup` steps."""
        return ((self.steps - self.config.start) / self.config.warmup).clamp(0, 1)


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """0.5 (mean relu(1 - D(x)) + mean relu(1 + D(x^)))."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_hinge(fake: Tensor) -> Tensor:
    """- mean D(x^)."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_weight: Tensor) -> Tensor:
    """|grad of reconstruction| / (|grad of adversarial| + 1e-4) at the last layer, at most 1e4, detached."""
    rec = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)[0].norm()
    adv = torch.autograd.grad(adversarial, last_weight, retain_graph=True)[0].norm()
    return (rec / (adv + 1e-4)).clamp(0, 1e4).detach()
