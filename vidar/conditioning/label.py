"""One label per batch row (class, game, style) -> modulation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.conditioning.config import ConditionerConfig, Told
from vidar.core.layout import Layout
from vidar.nn.embed import linear, table
from vidar.types import Cond, UsageError


@dataclass(frozen=True)
class Labels:
    """values: long [B] in 0 .. num_labels - 1. none: bool [B], rows without a label (dropout, guidance)."""

    values: Tensor
    none: Tensor

    def untold(self) -> Labels:
        """The same rows without a label."""
        return Labels(self.values, torch.ones_like(self.none))

    def doubled(self) -> Labels:
        """The same rows, followed by the rows without a label (the unconditional branch of guidance)."""
        return Labels(torch.cat([self.values] * 2), torch.cat([self.none, torch.ones_like(self.none)]))

    def to(self, device: torch.device) -> Labels:
        """A copy on a device."""
        return Labels(self.values.to(device), self.none.to(device))


class LabelEmbedConfig(ConditionerConfig):
    """num_labels: number of labels. width: D of the backbone."""

    accepts: ClassVar[tuple[str, ...]] = ("label",)

    num_labels: int = Field(ge=1)
    width: int = Field(ge=1)

    def build(self) -> LabelEmbed:
        """An embedder with fresh weights."""
        return LabelEmbed(self)

    def described(self) -> list[str]:
        """See `ConditionerConfig`."""
        return [f"a label 0 .. {self.num_labels - 1}"]

    def labels(self) -> int:
        """See `ConditionerConfig`."""
        return self.num_labels

    def check(self, told: Told, name: str) -> None:
        """See `ConditionerConfig`. Also raises UsageError for a label out of range."""
        super().check(told, name)
        if told.label is not None and not 0 <= told.label < self.num_labels:
            raise UsageError(f"label {told.label} is out of range; model {name!r} has 0 .. {self.num_labels - 1}")

    def whole(self, told: Sequence[Told]) -> dict[str, Labels]:
        """See `ConditionerConfig`."""
        values = torch.tensor([one.label or 0 for one in told])
        return {"label": Labels(values, torch.tensor([one.label is None for one in told]))}

    def blank(self, batch: int, most: int) -> dict[str, Labels]:
        """See `ConditionerConfig`."""
        return {"label": Labels(*(torch.empty(batch, dtype=kind, device="meta") for kind in (torch.long, torch.bool)))}

    def record(self, values: Tensor, mask: Tensor, hidden: Tensor) -> Labels:
        """See `ConditionerConfig`."""
        return Labels(values, hidden)


class LabelEmbed(nn.Module):
    """A table with one further entry for "no label", then a two-layer MLP with SiLU."""

    def __init__(self, config: LabelEmbedConfig) -> None:
        super().__init__()
        self.config = config
        self.table = table(config.num_labels + 1, config.width)
        self.first = linear(config.width, config.width, bias=True)
        self.second = linear(config.width, config.width, bias=True)

    def forward(self, conditions: Labels, layout: Layout) -> Cond:
        """Modulation [B, M, D], the same for every row of the layout."""
        index = torch.where(conditions.none, self.config.num_labels, conditions.values)
        made = self.second(F.silu(self.first(self.table(index))))
        return Cond(modulation=made[:, None].expand(-1, layout.num_rows, -1))
