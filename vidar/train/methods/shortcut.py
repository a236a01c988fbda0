"""Shortcut models: one network for 1, 2, 4, 8, .. steps, trained from scratch without a teacher.

Frans et al., "One Step Diffusion via Shortcut Models", 2024: a velocity that is told how far it will be taken. One step
of size 2 d must lead where two of size d do, and size 0 is flow matching (causal-diffusion 15.3). Here a step goes from
a level to a lower one, and levels are shifted as in play, so the halves of a step may differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.objectives.flow import shift
from vidar.objectives.step_size import ToldConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.noised import noised
from vidar.train.methods.world import TrainWorld, TrainWorldConfig
from vidar.types import Loss

Net = Callable[[Tensor, Tensor, Tensor], Tensor]  # x [.., C], level, step size [.., 1] -> v


class ShortcutConfig(TrainWorldConfig):
    """share: of clips that learn self-consistency, the others learn flow matching as in any world.

    finest: the largest number of steps from noise to data that is learned, a power of two. Choice: 32; its halves are
    plain Euler steps, told size 0. A quarter of the clips, as in the paper; targets from the network itself, not from
    its average.
    """

    share: float = Field(default=0.25, ge=0, le=1)
    finest: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _check(self) -> ShortcutConfig:
        if self.finest & (self.finest - 1):
            raise ValueError(f"finest {self.finest} is not a power of two")
        if not isinstance(self.world.flow.step_size, ToldConfig):
            raise ValueError("world.objective.step_size: a shortcut model is told it; use ToldConfig")
        return self

    def build(self) -> Shortcut:
        """The method."""
        return Shortcut(self)


class Interval(NamedTuple):
    """A step and its middle, levels start > middle > end >= 0; plain, bool: its halves are told size 0."""

    start: Tensor
    middle: Tensor
    end: Tensor
    plain: Tensor


class Shortcut:
    """`step` is one loss on latent clips; `export` and `sample` are those of any world."""

    def __init__(self, config: ShortcutConfig) -> None:
        self.config = config
        self.clips = TrainWorld(config)
        self.layout = self.clips.layout

    def build_model(self) -> WorldNet:
        """See `TrainWorld.build_model`."""
        return self.clips.build_model()

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip, which also says what its clip learns."""
        chosen = [float(rng.uniform("consistency_share")) < self.config.share for rng in rngs]
        total, parts = batch.actions.new_zeros(()), {}
        for name, loss, wanted in (("flow", self.flow, False), ("shortcut", self.consistency, True)):
            index = [b for b, one in enumerate(chosen) if one is wanted]
            if index:
                value = loss(model, pick(batch, index), [rngs[b] for b in index])
                total, parts[name] = total + value * len(index) / len(rngs), value.detach()
        return Loss(total, parts)

    def flow(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Tensor:
        """Flow matching at step size 0."""
        return self.clips.step(model, batch, rngs).total

    def consistency(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Tensor:
        """Squared error of one step from where its two halves lead, in the network's own answer."""
        objective = self.clips.flow
        drawn = torch.stack([rng.uniform("interval", shape=(2, self.layout.num_rows)) for rng in rngs], 1)
        rows = intervals(drawn[0], drawn[1], self.config.finest, objective.config.shift)
        clips = noised(self.clips, batch, rngs, rows.start, model)
        step = Interval(*(clips.slots(part) for part in rows))._replace(plain=clips.slots(rows.plain) > 0)
        net = clips.velocity(model)
        wanted = shortcut_target(net, clips.x, step)
        error = net(clips.x, step.start, step.start - step.end) - wanted
        error = (error * objective.prediction.scale(step.start)).square().mean(-1)
        return (error * clips.weight).sum() / clips.weight.sum()

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a world directory (bfloat16)."""
        self.clips.export(model, directory)

    def sample(self, model: WorldNet, batch: LatentBatch, path: Path) -> None:
        """See `TrainWorld.sample`."""
        self.clips.sample(model, batch, path)


def intervals(size: Tensor, place: Tensor, finest: int, k: float) -> Interval:
    """Two uniform numbers [..] -> a step: 1, 2, 4, .. or `finest` of them from noise to data, all shifted by k."""
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
    """Some clips of a batch."""
    rows = torch.tensor(list(index), device=batch.codes.device)
    tensors = {name: getattr(batch, name)[rows] for name in ("codes", "actions", "unknown", "number")}
    return replace(batch, names=[batch.names[b] for b in index], **tensors)
