"""Actions -> modulation rows: one embedding per (unit, cell, role) row of a layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.actions import ActionSpec
from vidar.conditioning.config import ActionConditionerConfig
from vidar.core.layout import Layout
from vidar.nn.embed import linear, table
from vidar.types import Cond


@dataclass(frozen=True)
class Actions:
    """Actions by frame number: values float [B, T, A], unknown bool [B, T].

    first: the frame number of column 0, an int or long [B]; a stream keeps only a window of frames. memo: cached
    embeddings of the columns, by embedder, which the calls of a frame share (without gradients); None: embed at each
    call.
    """

    values: Tensor
    unknown: Tensor
    first: int | Tensor = 0
    memo: dict[Any, Tensor] | None = None

    def doubled(self) -> Actions:
        """The same rows, followed by the rows with unknown actions (the unconditional branch of guidance)."""
        hidden = torch.cat([self.unknown, torch.ones_like(self.unknown)])
        return Actions(torch.cat([self.values, self.values]), hidden, self.first)

    def untold(self) -> Actions:
        """The same frames with unknown actions."""
        return replace(self, unknown=torch.ones_like(self.unknown))

    def to(self, device: torch.device) -> Actions:
        """A copy on a device, or itself if it is there already."""
        if self.values.device == device:
            return self
        return Actions(self.values.to(device), self.unknown.to(device), self.first, None if self.memo is None else {})


class ActionEmbedConfig(ActionConditionerConfig):
    """history: how many earlier actions the embedding of a frame also sees. period: cells of a frame."""

    spec: ActionSpec
    width: int = Field(ge=1)
    history: int = Field(default=0, ge=0)
    period: int = Field(default=1, ge=1)

    def build(self) -> ActionEmbed:
        """An embedder with fresh weights."""
        return ActionEmbed(self)


class ActionEmbed(nn.Module):
    """Sum of column embeddings, or one learned vector for an unknown action; then a two-layer MLP with SiLU.

    Choice: the last layer is not initialised to zero, because adaLN's own weights are. With both at zero the action
    would only learn after both factors of the product had left zero, and unknown and no-op would start equal.
    """

    def __init__(self, config: ActionEmbedConfig) -> None:
        super().__init__()
        self.config = config
        self.centre: Tensor
        self.reach: Tensor
        self.back: Tensor
        actions = config.spec.actions
        self._numbers = [i for i, a in enumerate(actions) if a.kind in ("binary", "continuous")]
        self._choices = [i for i, a in enumerate(actions) if a.kind in ("choice", "camera")]
        # binary actions stay 0 or 1
        ranges = [(a.low, a.high) if a.kind == "continuous" else (-1.0, 1.0) for a in actions]
        chosen = torch.tensor([ranges[i] for i in self._numbers]).reshape(-1, 2)
        self.register_buffer("centre", chosen.mean(dim=1), persistent=False)
        self.register_buffer("reach", (chosen[:, 1] - chosen[:, 0]) / 2, persistent=False)
        self.register_buffer("back", torch.arange(config.history + 1), persistent=False)
        self.numbers = linear(len(self._numbers), config.width, std=1.0) if self._numbers else None
        self.tables = nn.ModuleList([table(actions[i].size, config.width) for i in self._choices])
        self.unknown = table(1, config.width)
        self.first = linear((config.history + 1) * config.width, config.width, bias=True)
        self.second = linear(config.width, config.width, bias=True)

    def forward(self, conditions: Actions, layout: Layout) -> Cond:
        """Modulation [B, M, D]. A frame outside the record, or padding, has an unknown action."""
        made, history = self.columns(conditions), self.config.history
        seen = made.gather(1, self._column_once(conditions, layout).expand(len(made), -1, -1))
        return Cond(modulation=self._mapped(seen.unflatten(1, (-1, history + 1)).flatten(2)))

    def _column_once(self, conditions: Actions, layout: Layout) -> Tensor:
        """`_column`, computed once for a layout and its shifted copies, because the record advances with them."""
        first, history, period = conditions.first, self.config.history, self.config.period
        starts = first.reshape(-1).tolist() if isinstance(first, Tensor) else [first]
        cells = layout.row_cell.tolist()
        if min(map(min, cells)) < history * period:  # some rows reach actions before frame 0, or are padding
            return self._column(conditions, layout)
        pairs = [(cells[row % len(cells)], starts[row % len(starts)]) for row in range(max(len(cells), len(starts)))]
        since = tuple(tuple(cell - period * start for cell in own) for own, start in pairs)
        key = "columns", history, period, conditions.unknown.shape[1], conditions.unknown.device, since
        if key not in layout.fixed:
            with torch.inference_mode(False):
                layout.fixed[key] = self._column(conditions, layout)
        return layout.fixed[key]

    def joined(self, seen: list[Tensor]) -> Tensor:
        """history + 1 embeddings [B, M, D] each -> [B, M, D]."""
        return self._mapped(torch.cat(seen, dim=-1))

    def _column(self, conditions: Actions, layout: Layout) -> Tensor:
        """The columns that each row of a layout reads, for its action and earlier ones: [B, M (history + 1), D]."""
        (batch, count), device = conditions.unknown.shape, conditions.unknown.device
        start = torch.as_tensor(conditions.first, device=device).reshape(-1, 1)
        frame = layout.row_cell.to(device).div(self.config.period, rounding_mode="floor")  # padding stays negative
        column = (frame - start)[..., None] - self.back  # [B or 1, M, history + 1]
        inside = (frame[..., None] >= self.back) & (column >= 0) & (column < count)
        column = torch.where(inside, column, count).expand(batch, -1, -1).flatten(1)
        return column[..., None].expand(-1, -1, self.config.width)

    def _mapped(self, seen: Tensor) -> Tensor:
        return self.second(F.silu(self.first(seen)))

    def columns(self, conditions: Actions) -> Tensor:
        """The embedding of every action, and behind them that of an unknown one: [B, T + 1, D]."""
        memo = None if torch.is_grad_enabled() else conditions.memo
        if memo is not None and self in memo:
            return memo[self]
        values, weight = conditions.values, self.first.weight
        made = weight.new_zeros(*conditions.unknown.shape, self.config.width)
        if self.numbers is not None:
            scaled = values if len(self._numbers) == values.shape[-1] else values[..., self._numbers]
            scaled = (scaled - self.centre) / self.reach
            made = made + self.numbers(scaled.to(weight.dtype))
        for column, embedding in zip(self._choices, self.tables, strict=True):
            made = made + embedding(values[..., column].round().long())
        unknown = self.unknown.weight[0]
        made = torch.where(conditions.unknown[..., None], unknown, made)
        made = torch.cat([made, unknown.expand(made.shape[0], 1, -1)], dim=1)
        if memo is not None:
            memo[self] = made
        return made
