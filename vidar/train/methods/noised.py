"""A batch of clips whose frames stand at levels of their own, and what a network answers to it elsewhere.

Losses of few-step students ask at two or three points of one path, with the rest of the clip as it was.
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

Net = Callable[..., Tensor]  # a WorldNet, or what is called like one: (inputs, layout, actions) -> answer


@dataclass(frozen=True)
class Noised:
    """clips: whose layout and objective these are.

    seen    [B, S, I]: what the network is given, every asked slot at the level of its row
    asked   bool [B, S, 1]: the slots that may be moved; commits and given frames are not among them
    clean   [B, S, C]: the codes
    weight  [B, S]: 1 where something is to be learned, else 0
    """

    clips: TrainWorld
    seen: Tensor
    asked: Tensor
    clean: Tensor
    weight: Tensor
    actions: Actions

    @property
    def x(self) -> Tensor:
        """[B, S, C]."""
        return self.seen[..., : self.clips.flow.channels]

    def slots(self, rows: Tensor) -> Tensor:
        """One number for each row of each clip, [B, M] -> [B, S, 1]."""
        return rows.to(self.seen)[:, slot_tables(self.clips.layout, self.seen.device).row, None]

    def inputs(self, x: Tensor, level: Tensor, *size: Tensor) -> Tensor:
        """The clip with x [B, S, C] at level [B, S, 1] in its asked slots, [B, S, I]; size: of the step, if told."""
        return torch.where(self.asked, torch.cat([x, self._hint, *size, level], -1), self.seen)

    def data(self, net: Net) -> Callable[..., Tensor]:
        """(x, level, step size if told) -> x0, [B, S, C]."""
        prediction = self.clips.flow.prediction
        return lambda x, level, *size: prediction.data(x, self._answer(net, x, level, *size), level, self._hint)

    def velocity(self, net: Net) -> Callable[..., Tensor]:
        """(x, level, step size if told) -> v, [B, S, C]."""
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
    """A batch at levels [B, M], one for each row; given frames stand at that of context, commits at theirs.

    net: whose own answers are the context where the clips ask for that; None: the context is true.
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
