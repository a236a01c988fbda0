"""Inputs of every slot of a chunk after a clean prefix: a clean flag and the temporal position (Ca2-VDM)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.conditioning.config import ConditionerConfig, Told
from vidar.core.layout import Layout
from vidar.types import MEMORY, Cond


class PrefixEmbedConfig(ConditionerConfig):
    """inner: the conditioner of the modulation (actions), or None. axis: the grid's temporal coordinate.

    longest: the slowest wavelength of the sinusoids of the position.
    """

    width: int = Field(ge=2, multiple_of=2)
    inner: ConditionerConfig | None = None
    axis: str = "t"
    longest: float = Field(default=10000.0, gt=1)

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the conditions that `inner` takes."""
        return () if self.inner is None else self.inner.takes

    def action_spec(self) -> ActionSpec | None:
        """See `ConditionerConfig`."""
        return None if self.inner is None else self.inner.action_spec()

    def whole(self, told: Sequence[Told]) -> dict[str, Any]:
        """See `ConditionerConfig`."""
        return {} if self.inner is None else self.inner.whole(told)

    def blank(self, batch: int, most: int) -> dict[str, Any]:
        """See `ConditionerConfig`."""
        return {} if self.inner is None else self.inner.blank(batch, most)

    def condition(self, told: Mapping[str, Any]) -> Any:
        """See `ConditionerConfig`."""
        return None if self.inner is None else self.inner.condition(told)

    def build(self) -> PrefixEmbed:
        """An embedder with fresh weights."""
        return PrefixEmbed(self)


class PrefixEmbed(nn.Module):
    """A sinusoid of the temporal position, and one learned vector on every clean (MEMORY) slot.

    A scalar input channel of 1 or 0, merged by a linear layer that is the identity on the other channels, equals that
    vector times the flag. Choice: both are added to the slots before the first block, not only to the input of its
    temporal attention. The vector starts at zero.
    """

    def __init__(self, config: PrefixEmbedConfig) -> None:
        super().__init__()
        self.config = config
        self.inner = None if config.inner is None else config.inner.build()
        self.clean = nn.Parameter(torch.zeros(config.width))

    def forward(self, conditions: Any, layout: Layout) -> Cond:
        """Cond with `add` [B or 1, S, D], besides the ports of `inner`."""
        cond = Cond() if self.inner is None else self.inner(conditions, layout)
        position = layout.slots.coord[..., layout.axes.index(self.config.axis)]
        waves = sinusoids(position, self.config.width, self.config.longest).to(self.clean)
        flag = (layout.slots.role == MEMORY).to(self.clean)
        return replace(cond, add=waves + flag[..., None] * self.clean)


def sinusoids(position: Tensor, width: int, longest: float) -> Tensor:
    """[..] -> [.., D]: sines, then cosines (Vaswani et al., 2017, section 3.5), computed in float64."""
    half = torch.arange(width // 2, dtype=torch.float64)
    angles = position.to(torch.float64)[..., None] * torch.exp(-math.log(longest) * half / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
