"""A world's network as functions compiled ahead of time for the calls of a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from vidar.nn.ahead import AheadOfTime
from vidar.nn.static import Build, StaticBackbone
from vidar.types import Model, UsageError

if TYPE_CHECKING:
    from vidar.world.world import World


def compiled(world: World, build: Build | None = None) -> Model:
    """See `World.compiled`."""
    if world.device.type != "cpu":
        raise UsageError(f"worlds are compiled for play on the CPU, this one is on {world.device}")
    backbone = StaticBackbone(world.net.backbone, build or AheadOfTime())

    def model(inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        return backbone(inputs, layout, world.net.condition(cond, layout), state).float()

    return model
