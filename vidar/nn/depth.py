"""Depth of a first-person picture: a small convolutional network with skip connections (U-Net), for one game.

Depth is the distance along the view, in map units.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.config import Config
from vidar.nn.pretrained import load_component, save_component
from vidar.types import UsageError

PATCH = 2  # pixels along the side of the patches that the first convolution reads


class DepthNetConfig(Config):
    """widths: channels of the levels, finest first; the first has patches of 2 x 2 pixels, each next one half the size.

    typical: a usual depth in map units, at which training starts.
    """

    height: int = Field(ge=PATCH)
    width: int = Field(ge=PATCH)
    widths: tuple[int, ...] = Field(default=(32, 64, 96, 128), min_length=1)
    typical: float = Field(default=80.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> DepthNetConfig:
        least = PATCH * 2 ** (len(self.widths) - 1)
        if self.height % least or self.width % least:
            raise ValueError(f"{len(self.widths)} widths need a height and a width that divide by {least}")
        return self

    def build(self) -> DepthNet:
        """The network, untrained."""
        return DepthNet(self)


class DepthNet(nn.Module):
    """Predicts the logarithm of depth. Choice: the finest level works on patches, because full resolution would take
    most of the time and add little but sharper edges, which the last layer draws from the patch features.
    """

    def __init__(self, config: DepthNetConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        coarser = list(zip(widths, widths[1:]))
        self.stem = _convolution(3 * PATCH**2, widths[0])
        self.down = nn.ModuleList([_convolution(fine, coarse, 2) for fine, coarse in coarser])
        self.level = nn.ModuleList([_convolution(width, width) for width in widths])
        self.up = nn.ModuleList([nn.Conv2d(coarse, fine, 1) for fine, coarse in coarser])
        self.joined = nn.ModuleList([_convolution(2 * width, width) for width in widths[:-1]])
        self.out = nn.Conv2d(widths[0], PATCH**2, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in the stub

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [N, H, W, 3], uint8 or float in [0, 255] -> depth float32 [N, H, W].

        Raises UsageError for frames of another size.
        """
        config = self.config
        if frames.shape[1:] != (config.height, config.width, 3):
            wanted = f"{config.height} x {config.width} x 3"
            raise UsageError(f"frames are {list(frames.shape[1:])}, the depth network reads {wanted}")
        x = (frames.to(self.out.weight.dtype) / 127.5 - 1).permute(0, 3, 1, 2)
        x = self.level[0](self.stem(F.pixel_unshuffle(x, PATCH)))
        levels = [x]
        for down, level in zip(self.down, self.level[1:]):
            levels.append(level(down(levels[-1])))
        x = levels.pop()
        for up, joined in zip(reversed(self.up), reversed(self.joined)):
            x = joined(torch.cat([F.interpolate(up(x), scale_factor=2), levels.pop()], 1))
        log = F.pixel_shuffle(self.out(x), PATCH)[:, 0]
        return self.config.typical * log.to(torch.promote_types(log.dtype, torch.float32)).exp()

    def save_pretrained(self, directory: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(self, self.config, directory, dtype)

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str]) -> DepthNet:
        """Read what `save_pretrained` wrote. Raises VidarError for missing or damaged files."""
        model = load_component(directory)
        if not isinstance(model, DepthNet):
            raise UsageError(f"{directory}: holds a {type(model).__name__}, not a DepthNet")
        return model


def _convolution(before: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.GroupNorm(8, width), nn.SiLU())
