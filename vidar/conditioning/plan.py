"""Actions of planned segments -> modulation rows: what happened since the known frames."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.conditioning.action import ActionEmbedConfig, Actions
from vidar.conditioning.config import ActionConditionerConfig
from vidar.core.layout import Layout
from vidar.orders.plan import StepMap
from vidar.types import Cond


class PlanActionEmbedConfig(ActionConditionerConfig):
    """map: the step map of the order, whose cells are frames. A segment reads no action of another segment."""

    spec: ActionSpec
    width: int = Field(ge=1)
    map: StepMap

    def build(self) -> PlanActionEmbed:
        """An embedder with fresh weights."""
        return PlanActionEmbed(self)


class PlanActionEmbed(nn.Module):
    """A frame receives every action of its segment up to its own, in order, and two sums of their embeddings.

    The sums are over the actions since the nearest earlier frame that a previous step generated, and since the first
    frame. Choice: if an action moves something by one step, the sum is the distance moved, which is hard to learn
    from single actions, because each action would need its own weights for every distance.
    """

    gap: Tensor

    def __init__(self, config: PlanActionEmbedConfig) -> None:
        super().__init__()
        self.config, length = config, config.map.length
        self.actions = ActionEmbedConfig(spec=config.spec, width=config.width, history=length + 1).build()
        before = [config.map.before(t) for t in range(length)]
        gap = torch.tensor([0 if b is None else t - b for t, b in enumerate(before)])
        self.register_buffer("gap", gap, persistent=False)

    def forward(self, conditions: Actions, layout: Layout) -> Cond:
        """Modulation [B, M, D]. Padding and frames outside the record have an unknown action."""
        batch, count = conditions.unknown.shape
        device = conditions.unknown.device
        frame = layout.row_cell.to(device)
        place = frame % self.config.map.length
        made = self.actions.columns(conditions)
        seen, since, whole = list[Tensor](), made.new_zeros(()), made.new_zeros(())
        for back in range(self.config.map.length):
            column = frame - back - torch.as_tensor(conditions.first, device=device).reshape(-1, 1)
            inside = (frame >= 0) & (place >= back) & (column >= 0) & (column < count)
            column = torch.where(inside, column, count).expand(batch, -1)
            seen.append(made.gather(1, column[..., None].expand(-1, -1, made.shape[-1])))
            counted = inside & (place > back)  # the action of the first frame acts before the segment
            whole = whole + seen[-1] * counted[..., None]
            since = since + seen[-1] * (counted & (back < self.gap[place]))[..., None]
        return Cond(modulation=self.actions.joined([*seen, since, whole]))
