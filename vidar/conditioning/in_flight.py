"""Conditions for units in flight only: committed units do not receive their action (ACDiT, arXiv 2412.07720)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from vidar.actions import ActionSpec
from vidar.conditioning.action import ActionEmbed, ActionEmbedConfig
from vidar.conditioning.config import ActionConditionerConfig
from vidar.core.layout import Layout
from vidar.types import QUERY, Cond


class InFlightConfig(ActionConditionerConfig):
    """actions: how those of QUERY rows are embedded; MEMORY rows get nothing.

    With clean context (`CleanConfig`) the level of a MEMORY row is always 0, so its modulation is constant: a gain,
    an offset and a gate per sublayer. Choice: ACDiT keeps only the gain of its norms there. For TWIN only, because in
    SINGLE every row is a MEMORY row.
    """

    actions: ActionEmbedConfig

    @property
    def spec(self) -> ActionSpec:
        """The actions."""
        return self.actions.spec

    @property
    def history(self) -> int:
        """See `ActionEmbedConfig`."""
        return self.actions.history

    def build(self) -> InFlight:
        """A conditioner with fresh weights."""
        return InFlight(self.actions.build())


class InFlight(nn.Module):
    """The conditions of the embedder where the role is QUERY, else zero."""

    def __init__(self, actions: ActionEmbed) -> None:
        super().__init__()
        self.actions = actions

    def forward(self, conditions: Any, layout: Layout) -> Cond:
        """Modulation [B, M, D]."""
        cond: Cond = self.actions(conditions, layout)
        assert cond.modulation is not None
        asked = (layout.row_role == QUERY).to(cond.modulation.device)[:, None]
        return replace(cond, modulation=cond.modulation * asked)
