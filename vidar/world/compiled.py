"""A world's network as functions for the calls of a frame: compiled ahead of time on the CPU, CUDA graphs on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vidar.nn.ahead import AheadOfTime
from vidar.nn.graphed import Graphed
from vidar.nn.static import Build, StaticBackbone
from vidar.types import Model, UsageError

if TYPE_CHECKING:
    from vidar.world.world import World


def compiled(world: World, build: Build | None = None) -> Model:
    """See `World.compiled`."""
    kinds: dict[str, Callable[[], Build]] = {"cpu": AheadOfTime, "cuda": Graphed}
    if world.device.type not in kinds:
        raise UsageError(f"worlds are compiled for play on {' or '.join(kinds)}, this one is on {world.device}")
    backbone = StaticBackbone(world.net.backbone, build or kinds[world.device.type]())

    def model(inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        return backbone(inputs, layout, world.net.condition(cond, layout), state).float()

    return model
