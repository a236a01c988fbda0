"""What a rollout of a world is made of, and its network as functions for the calls of a frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from vidar.actions import ActionSpec
from vidar.cache.policy import PolicyConfig
from vidar.conditioning.net import WorldNet
from vidar.core.system import System
from vidar.nn.ahead import AheadOfTime
from vidar.nn.graphed import Graphed
from vidar.nn.static import Build, StaticBackbone
from vidar.objectives.next_scale import Pyramid
from vidar.rollout.codec import Codec
from vidar.rollout.setting import Network, Setting
from vidar.sampling.guidance import GuideConfig
from vidar.types import Model, UsageError


class Acted(Protocol):
    """The config of a model that is acted on frame by frame."""

    @property
    def name(self) -> str:
        """Of the model."""
        ...

    @property
    def actions(self) -> ActionSpec:
        """What it is told of every frame."""
        ...

    @property
    def context(self) -> int:
        """Frames of context used at most."""
        ...

    @property
    def guidance(self) -> GuideConfig | None:
        """Of what is dreamed, by its actions."""
        ...

    @property
    def policy(self) -> PolicyConfig | None:
        """What the cache forgets between calls."""
        ...

    @property
    def sites(self) -> tuple[int, int]:
        """Rows and columns of sites of one frame."""
        ...

    @property
    def channels(self) -> int:
        """Numbers per site."""
        ...

    @property
    def steps(self) -> int:
        """Calls of the network for a frame."""
        ...

    def with_steps(self, steps: int) -> Self:
        """The same with another number of calls."""
        ...

    def system(self, *, pyramid: Pyramid | None = None) -> System[Any]:
        """What it compiles to."""
        ...


def setting(config: Acted, net: WorldNet, call: Model, codec: Codec, pyramid: Pyramid | None) -> Setting:
    """See `Setting`. call: of the network, from and to the CPU."""
    network = Network(call, net.ring_shapes(), next(net.parameters()).dtype, net.backbone.row.device)

    def system(steps: int) -> System[Any]:
        return config.with_steps(steps).system(pyramid=pyramid)

    rest, name = torch.from_numpy(config.actions.noop()), f"world {config.name!r}"
    made, faster = system(config.steps), lambda steps: system(steps).objective
    policy = None if config.policy is None else config.policy.build()
    shape, guide = (math.prod(config.sites), config.channels), config.guidance
    return Setting(name, made, network, codec, config.steps, faster, config.context, shape, rest, guide, policy)


def compiled(net: WorldNet, build: Build | None = None) -> Model:
    """Ahead of time on the CPU, CUDA graphs on a GPU; see `World.compiled`."""
    kinds: dict[str, Callable[[], Build]] = {"cpu": AheadOfTime, "cuda": Graphed}
    device = net.backbone.row.device
    if device.type not in kinds:
        raise UsageError(f"worlds are compiled for play on {' or '.join(kinds)}, this one is on {device}")
    backbone = StaticBackbone(net.backbone, build or kinds[device.type]())

    def model(inputs: Tensor, layout: Any, cond: Any = None, state: Any = None) -> Tensor:
        return backbone(inputs, layout, net.condition(cond, layout), state).float()

    return model
