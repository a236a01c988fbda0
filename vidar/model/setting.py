"""The Setting of a rollout of a model, and its compiled network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.core.system import System
from vidar.model.config import ModelConfig
from vidar.nn.ahead import AheadOfTime
from vidar.nn.graphed import Graphed
from vidar.nn.static import Build, StaticBackbone
from vidar.rollout.codec import Codec
from vidar.rollout.memory import Memory
from vidar.rollout.setting import Network, Setting
from vidar.types import Model, UsageError


def setting(
    config: ModelConfig,
    net: WorldNet,
    call: Model,
    codec: Codec,
    pyramid: Any,
    frames: int | None = None,
    memory: Memory | None = None,
) -> Setting:
    """The `Setting` of a model.

    call: the network, with inputs and outputs on the CPU. frames: length of a clip; None: that of the config.
    """
    network = Network(call, net.ring_shapes(), next(net.parameters()).dtype, net.backbone.row.device)

    def system(steps: int) -> System[Any]:
        return config.with_steps(steps).system(frames, pyramid=pyramid)

    rest = torch.zeros(0) if config.actions is None else torch.from_numpy(config.actions.noop())
    return Setting(
        name=f"{'model' if config.clips else 'world'} {config.name!r}",
        system=system(config.steps),
        network=network,
        codec=codec,
        steps=config.steps,
        faster=lambda steps: system(steps).objective,
        context=config.context,
        frame_shape=(math.prod(config.sites), config.channels),
        rest=rest,
        conditioner=config.conditioner,
        guidance=config.guidance,
        policy=None if config.policy is None else config.policy.build(),
        memory=memory,
    )


def compiled(net: WorldNet, build: Build | None = None) -> Model:
    """The network compiled ahead of time on the CPU, or as CUDA graphs on a GPU; see `VideoModel.compiled`."""
    kinds: dict[str, Callable[[], Build]] = {"cpu": AheadOfTime, "cuda": Graphed}
    device = net.backbone.row.device
    if device.type not in kinds:
        raise UsageError(f"worlds are compiled on {' or '.join(kinds)}, this one is on {device}; move it first")
    return Compiled(net, build or kinds[device.type]())


class Compiled:
    """A network that `build` compiles, one function per shape. Where a copy is unpickled, it is compiled anew."""

    def __init__(self, net: WorldNet, build: Build) -> None:
        self.net, self.backbone = net, StaticBackbone(net.backbone, build)

    def __call__(self, inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        """See `vidar.types.Model`."""
        return self.backbone(inputs, layout, self.net.condition(cond, layout), state).float()

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.net, self.backbone.build)
