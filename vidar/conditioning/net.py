"""The network of a world: a conditioner and a backbone, trained and saved as one module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vidar.conditioning.config import ConditionerConfig
from vidar.config import Config
from vidar.core.layout import Layout
from vidar.core.placement import RingShape
from vidar.nn.backbone import BackboneConfig
from vidar.types import Cond, State


class WorldNetConfig(Config):
    """conditioner: reads the conditions (actions, label, prompt); None: the network takes none."""

    backbone: BackboneConfig
    conditioner: ConditionerConfig | None = None

    def build(self) -> WorldNet:
        """A network with fresh weights."""
        return WorldNet(self)


class WorldNet(nn.Module):
    """`net(inputs, layout, conditions, state) -> out`: a Model whose third argument is raw conditions."""

    def __init__(self, config: WorldNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioner = None if config.conditioner is None else config.conditioner.build()
        self.backbone = config.backbone.build()

    def condition(self, conditions: Any, layout: Layout) -> Cond:
        """The ports for a layout, empty without conditions.

        A Cond computed earlier (once for many steps) is returned as it is.
        """
        if isinstance(conditions, Cond):
            return conditions
        if conditions is None or self.conditioner is None:
            return Cond()
        return self.conditioner(conditions, layout)

    def forward(self, inputs: Tensor, layout: Layout, conditions: Any = None, state: State | None = None) -> Tensor:
        """inputs [B, S, I] -> [B, S, O]."""
        return self.backbone(inputs, layout, self.condition(conditions, layout), state)

    def ring_shapes(self) -> dict[str, RingShape]:
        """See `Backbone.ring_shapes`."""
        return self.backbone.ring_shapes()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the backbone's parts in place, see `Backbone.compile`."""
        self.backbone.compile(*args, **kwargs)
