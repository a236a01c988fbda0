"""Shortcut models: one network for 1, 2, 4, 8, .. steps, trained from scratch without a teacher.

Frans et al., "One Step Diffusion via Shortcut Models", 2024: the network receives the size of the step that its
velocity is used for. One step of size 2 d must lead to the same point as two steps of size d, and size 0 is flow
matching. Here a step goes from a level to a lower level, and levels are shifted as in play, so the two halves of a step
may differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.objectives.flow import shift
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.noised import noised
from vidar.train.methods.supervised import Supervised
from vidar.train.methods.world import TrainWorld, TrainWorldConfig
from vidar.train.ranks import ALONE, Ranks, anywhere
from vidar.types import Loss

Net = Callable[[Tensor, Tensor, Tensor], Tensor]  # x [.., C], level, step size [.., 1] -> v


class ShortcutConfig(TrainWorldConfig):
    """share: share of clips that learn self-consistency; the others learn flow matching as in any world.

    finest: the largest number of steps from noise to data that is learned, a power of two. Choice: 32; the halves of
    its steps are plain Euler steps, for which the network receives size 0. A quarter of the clips, as in the paper; the
    targets come from the network itself, not from its average.
    """

    share: float = Field(default=0.25, ge=0, le=1)
    finest: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _check(self) -> ShortcutConfig:
        if self.finest & (self.finest - 1):
            raise ValueError(f"finest {self.finest} is not a power of two")
        if not self.world.flow.step_size.told:
            raise ValueError("world.objective.step_size: a shortcut model must receive it; use ToldConfig")
        return self

    def build(self) -> Shortcut:
        """The method."""
        return Shortcut(self)


class Interval(NamedTuple):
    """A step and its middle: start > middle > end >= 0. plain: bool, the network receives size 0 in both halves."""

    start: Tensor
    middle: Tensor
    end: Tensor
    plain: Tensor


class Shortcut(Supervised[ShortcutConfig]):
    """Training of a shortcut model on latent clips; everything but the loss is as for any world."""

    def __init__(self, config: ShortcutConfig) -> None:
        super().__init__(config)
        self.clips = TrainWorld(config)
        self.layout = self.clips.layout

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """The loss on a batch of latent clips, with one Rng per clip, which also draws which loss the clip has.

        A rank that has no clip for one of the losses, while other ranks do, runs it on a clip with weight 0, because
        all ranks must make the same forward passes.
        """
        chosen = [float(rng.uniform("consistency_share")) < self.config.share for rng in rngs]
        total, parts = batch.actions.new_zeros(()), dict[str, Tensor]()
        for name, loss, wanted in (("flow", self.flow, False), ("shortcut", self.consistency, True)):
            index = [b for b, one in enumerate(chosen) if one is wanted]
            if anywhere(ranks, bool(index)):
                learned = index or [0]
                value = loss(model, pick(batch, learned), [rngs[b] for b in learned], ranks)
                total = total + value * len(index) / len(rngs)
                parts |= {name: value.detach()} if index else {}
        return Loss(total, parts)

    def flow(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Tensor:
        """Flow matching at step size 0."""
        return self.clips.step(model, batch, rngs, ranks).total

    def consistency(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Tensor:
        """Squared error between one step and its two halves, in the parameterisation of the network's output."""
        objective = self.clips.flow
        drawn = torch.stack([rng.uniform("interval", shape=(2, self.layout.num_rows)) for rng in rngs], 1)
        rows = intervals(drawn[0], drawn[1], self.config.finest, objective.config.shift)
        clips = noised(self.clips, batch, rngs, rows.start, model, ranks)
        step = Interval(*(clips.slots(part) for part in rows))._replace(plain=clips.slots(rows.plain) > 0)
        net = clips.velocity(model)
        wanted = shortcut_target(net, clips.x, step)
        error = net(clips.x, step.start, step.start - step.end) - wanted
        error = (error * objective.prediction.scale(step.start)).square().mean(-1)
        return (error * clips.weight).sum() / clips.weight.sum()


def intervals(size: Tensor, place: Tensor, finest: int, k: float) -> Interval:
    """Two uniform numbers [..] -> one of 1, 2, 4, .. or `finest` steps from noise to data, all shifted by k."""
    count = 2.0 ** torch.floor(size * finest.bit_length())
    first = torch.floor(place * count)
    start, middle, end = (shift(1 - (first + part) / count, k) for part in (0.0, 0.5, 1.0))
    return Interval(start, middle, end, count == finest)


@torch.no_grad()
def shortcut_target(net: Net, x: Tensor, step: Interval) -> Tensor:
    """The mean velocity over both halves of a step: x [.., C], levels [.., 1] -> [.., C].

    With halves of one size it is (v(x, s, d) + v(x', s - d, d)) / 2 (Frans et al., eq. 3, with noise at level 1).
    """
    before, after = step.start - step.middle, step.middle - step.end
    first = net(x, step.start, torch.where(step.plain, 0, before))
    second = net(x - before * first, step.middle, torch.where(step.plain, 0, after))
    return (before * first + after * second) / (before + after)


def pick(batch: LatentBatch, index: Sequence[int]) -> LatentBatch:
    """A batch of the clips with these indices."""
    rows = torch.tensor(list(index), device=batch.codes.device)
    tensors = {name: getattr(batch, name)[rows] for name in ("codes", "actions", "unknown", "number")}
    return replace(batch, names=[batch.names[b] for b in index], **tensors)
