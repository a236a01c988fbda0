"""A batch of clips with one noise level per frame, and the outputs of a network at other levels of the same path.

Losses of few-step students evaluate two or three points of one path, while the rest of the clip stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.conditioning.net import WorldNet
from vidar.objectives.rows import slot_tables
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.world import TrainWorld, seen_alike
from vidar.train.ranks import ALONE, Ranks

Net = Callable[..., Tensor]  # a WorldNet, or a function like it: (inputs, layout, actions) -> output


@dataclass(frozen=True)
class Noised:
    """A batch with noise. clips: the method that provides layout and objective.

    seen    [B, S, I]: the network inputs, every asked slot at the level of its row
    asked   bool [B, S, 1]: the slots whose x and level may be replaced; not commits and given frames
    clean   [B, S, C]: the codes without noise
    weight  [B, S]: 1 for slots with a loss, else 0
    """

    clips: TrainWorld
    seen: Tensor
    asked: Tensor
    clean: Tensor
    weight: Tensor
    actions: Actions

    @property
    def x(self) -> Tensor:
        """The noisy codes [B, S, C]."""
        return self.seen[..., : self.clips.flow.channels]

    def slots(self, rows: Tensor) -> Tensor:
        """Expand one number per row of each clip to its slots, [B, M] -> [B, S, 1]."""
        return rows.to(self.seen)[:, slot_tables(self.clips.layout, self.seen.device).row, None]

    def inputs(self, x: Tensor, level: Tensor, *size: Tensor) -> Tensor:
        """Network inputs [B, S, I] with x [B, S, C] at level [B, S, 1] in the asked slots.

        size: the step size, for networks that receive it.
        """
        return torch.where(self.asked, torch.cat([x, self._hint, *size, level], -1), self.seen)

    def data(self, net: Net) -> Callable[..., Tensor]:
        """The function (x, level, step size if the network receives it) -> x0, [B, S, C]."""
        prediction = self.clips.flow.prediction
        return lambda x, level, *size: prediction.data(x, self._answer(net, x, level, *size), level, self._hint)

    def velocity(self, net: Net) -> Callable[..., Tensor]:
        """The function (x, level, step size if the network receives it) -> v, [B, S, C]."""
        prediction = self.clips.flow.prediction
        return lambda x, level, *size: prediction.velocity(x, self._answer(net, x, level, *size), level, self._hint)

    def _answer(self, net: Net, x: Tensor, level: Tensor, *size: Tensor) -> Tensor:
        return net(self.inputs(x, level, *size), self.clips.layout, self.actions).to(x)

    @property
    def _hint(self) -> Tensor:
        return self.clips.flow.hint_of(self.seen)


def noised(
    clips: TrainWorld,
    batch: LatentBatch,
    rngs: Sequence[Rng],
    levels: Tensor,
    net: WorldNet | None = None,
    ranks: Ranks = ALONE,
) -> Noised:
    """A batch at levels [B, M], one per row; given frames have the level of context, commits their own level.

    net: the network whose predictions are the self-generated context, if the clips have one; None: the true context.
    """
    objective, layout, rngs = clips.flow, clips.layout, seen_alike(rngs)
    actions = clips.config.told(batch, rngs)
    rows = list(zip(layout.row_unit[0].tolist(), layout.row_step.tolist(), strict=True))
    given = sorted({unit for unit, step in rows if unit < objective.config.given and step >= 0})
    levels, drawn = levels.clone(), objective.training_levels(given, rngs)
    for m, (unit, step) in enumerate(rows):
        if unit in given and step >= 0:
            levels[:, m] = drawn[:, given.index(unit)]
    codes = clips.spread(batch.codes)
    context = None if net is None else clips.own_context(net, codes, actions, rngs, ranks)
    seen, target, _ = objective.prepare(codes, layout, rngs, levels=levels, context=context)
    slots = slot_tables(layout, seen.device)
    weight = target.weight * (slots.unit >= objective.config.given)
    return Noised(clips, seen, weight[..., None] > 0, codes.to(seen)[:, slots.site], weight, actions)
