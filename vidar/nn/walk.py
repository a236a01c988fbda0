"""How a first-person player moves in a step: from the keys, the steps before, and how far the walls around are.

Motion is (turn, ahead, left) as in `vidar.nn.pose.motion`: degrees counter-clockwise and map units.
"""

from __future__ import annotations

import os

import torch
from pydantic import Field
from torch import Tensor, nn

from vidar.config import Config
from vidar.nn.embed import linear
from vidar.nn.pretrained import load_component, save_component
from vidar.types import UsageError


class WalkNetConfig(Config):
    """actions: A. past: number of steps, including this one, whose keys are read, and of earlier ones whose motion is.

    rays: directions in which the distance of the walls is known. reach: the largest such distance, in map units. scale:
    a usual motion along each axis.
    """

    actions: int = Field(ge=1)
    past: int = Field(default=6, ge=1)
    rays: int = Field(default=32, ge=4)
    reach: float = Field(default=160.0, gt=0)
    scale: tuple[float, float, float] = (5.0, 8.0, 8.0)
    hidden: int = Field(default=192, ge=1)

    def build(self) -> WalkNet:
        """The network, untrained."""
        return WalkNet(self)


class WalkNet(nn.Module):
    """Three linear layers. Choice: nearness (1 at the player, 0 at `reach`), so that what is far away is nothing."""

    def __init__(self, config: WalkNetConfig) -> None:
        super().__init__()
        self.config = config
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(config.scale), persistent=False)
        columns = config.past * (config.actions + 3) + config.rays
        self.layers = nn.Sequential(
            linear(columns, config.hidden, bias=True),
            nn.SiLU(),
            linear(config.hidden, config.hidden, bias=True),
            nn.SiLU(),
            linear(config.hidden, 3, bias=True),
        )

    def forward(self, actions: Tensor, moved: Tensor, ranges: Tensor) -> Tensor:
        """actions [N, past, A] up to that of this step, moved [N, past, 3] up to the step before, ranges [N, rays].

        Returns float32 [N, 3]. Ranges: `vidar.cache.points.Points.ranges`, in map units.
        """
        near = 1 - (ranges / self.config.reach).clamp(0, 1)
        parts = actions.flatten(1), (moved / self.scale).flatten(1), near
        dtype = next(self.layers.parameters()).dtype
        moved = self.layers(torch.cat([part.to(dtype) for part in parts], 1))
        return moved.to(torch.promote_types(moved.dtype, torch.float32)) * self.scale

    def save_pretrained(self, directory: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(self, self.config, directory, dtype)

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str]) -> WalkNet:
        """Read what `save_pretrained` wrote. Raises VidarError for missing or damaged files."""
        model = load_component(directory)
        if not isinstance(model, WalkNet):
            raise UsageError(f"{directory}: holds a {type(model).__name__}, not a WalkNet")
        return model


def after(pose: Tensor, moved: Tensor) -> Tensor:
    """The pose [4] (x, y, z, angle in degrees) after a motion [3]; the inverse of `vidar.nn.pose.motion`."""
    angle = pose[3] + moved[0]
    heading = torch.deg2rad(angle)
    cos, sin = torch.cos(heading), torch.sin(heading)
    return torch.stack(
        [pose[0] + moved[1] * cos - moved[2] * sin, pose[1] + moved[1] * sin + moved[2] * cos, pose[2], angle]
    )
