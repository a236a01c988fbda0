"""Consistency distillation of a world, continuous: the interval of the discrete form shrunk to nothing.

sCM (Lu and Song, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models", 2024, algorithm 1), written
as in causal-diffusion 15.2. The answer f = cos t x - sin t F must not change along the teacher's path, so the student
is moved against df/dt. NFD+ gives every frame a time and a norm of its own (causal-diffusion 3.4).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.nn.attention import ExplicitConfig
from vidar.objectives.flow import shift
from vidar.objectives.rows import slot_tables
from vidar.objectives.trigflow import Net, data_of, level_of, trigflow
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.adversary import Student
from vidar.train.methods.distillation import DistillationConfig, Distilled
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss

FLOOR = 0.1  # added to the norm of a tangent
PATH = 48  # steps of the teacher's path that `gap` measures against


class Change(NamedTuple):
    """F of the student [.., C], its cos t sin t dF/dt along the teacher's path, and the t [.., 1] that this is for."""

    here: Tensor
    pace: Tensor
    time: Tensor


class Derivative(Protocol):
    """How F of the student changes along its teacher's path."""

    def network(self, net: WorldNet) -> Callable[..., Tensor]:
        """The student's network as it is differentiated: the same weights."""
        ...

    def __call__(self, student: Net, x: Tensor, time: Tensor, slope: Tensor) -> Change:
        """x [.., C], time [.., 1], slope: the teacher's F [.., C]."""
        ...


class DerivativeConfig(Config):
    """Base of the configs of derivatives."""

    @abstractmethod
    def build(self) -> Derivative:
        """The derivative."""


class ForwardModeConfig(DerivativeConfig):
    """The derivative by forward-mode differentiation: exact, one call of the student with twice the work."""

    def build(self) -> ForwardMode:
        """The derivative."""
        return ForwardMode()


class ForwardMode:
    """torch.func.jvp along (cos t sin t F_T, cos t sin t), the rearranged product of sCM."""

    def network(self, net: WorldNet) -> Callable[..., Tensor]:
        """The same weights in a network that attends explicitly: fused attention has no forward-mode derivative."""
        backbone = net.config.backbone.replace(attention=ExplicitConfig())
        with torch.device("meta"):
            shell = net.config.replace(backbone=backbone).build()
        weights = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        return lambda *inputs: functional_call(shell, weights, inputs)

    def __call__(self, student: Net, x: Tensor, time: Tensor, slope: Tensor) -> Change:
        """x [.., C], time [.., 1], slope: the teacher's F [.., C]."""
        pace = time.cos() * time.sin()
        told = torch.func.jvp(student, (x, time), (pace * slope, pace))
        here, change = cast(tuple[Tensor, Tensor], told)
        return Change(here, change, time)


class DifferenceConfig(DerivativeConfig):
    """The derivative from a second call, `size` radians nearer to the data: any network, any attention.

    Its error grows with the size; as the discrete form on arcs of that size it has none. Choice: 0.02, 79 arcs from
    noise to data, not rCM's 1e-4: the waves of a level embedding turn by up to 1,000 radians, and over a short arc
    what is left of them in an answer outweighs the rest. At most half of the way that is left.
    """

    size: float = Field(default=0.02, gt=0)

    def build(self) -> Difference:
        """The derivative."""
        return Difference(self.size)


class Difference:
    """(cos h F(x, t) - F(x', t - h)) / sin h at x' = cos h x - sin h F_T, for the time t - h.

    Choice: 15.2 puts t. With t - h the tangent is cos(t - h) (f(x, t) - f(x', t - h)) / sin h to the last digit, also
    where F is large because the network says x0; with t, an error of the order h F / t is added.
    """

    def __init__(self, size: float) -> None:
        self.size = size

    def network(self, net: WorldNet) -> Callable[..., Tensor]:
        """The network itself."""
        return net

    def __call__(self, student: Net, x: Tensor, time: Tensor, slope: Tensor) -> Change:
        """x [.., C], time [.., 1], slope: the teacher's F [.., C]."""
        h = (time / 2).clamp(max=self.size)
        later = time - h
        here, there = student(x, time), student(h.cos() * x - h.sin() * slope, later)
        return Change(here, later.cos() * later.sin() * (h.cos() * here - there) / h.sin(), later)


class ContinuousConsistencyConfig(DistillationConfig):
    """mean, std: of t = arctan(exp(mean + std n)), each frame its own. warmup_steps: until the tangent counts in full.

    anchor: time in radians below which the student only imitates its teacher (r = 0), whose answers are right there but
    for terms in t^2. Choice: in 15.2 the network says F, so f(x, 0) = x whatever it says; one that says x0 is bound by
    nothing at t = 0, and an answer that only must not change along a path can be anything.

    Choice: P_mean 0 and P_std 1.6, those of NFD's ablation; no guidance of the teacher, as a world is played without.
    """

    mean: float = 0.0
    std: float = Field(default=1.6, gt=0)
    warmup_steps: int = Field(default=1000, ge=0)
    anchor: float = Field(default=0.1, ge=0)
    derivative: DerivativeConfig = ForwardModeConfig()

    def build(self) -> ContinuousConsistency:
        """The method. Raises UsageError where the student does not play as one."""
        return ContinuousConsistency(self)


class ContinuousConsistency(Distilled):
    """`step` is one loss on latent clips; `export` writes the student with the tokenizer of its teacher.

    Choices: the teacher and the derivative in float32 whatever the precision of the run, as a tangent is a small
    difference. Not rCM's factor 100, which Adam does not see and which would leave all to the clipping of gradients.
    """

    def __init__(self, config: ContinuousConsistencyConfig) -> None:
        self.config = config
        super().__init__(config)
        self.derivative = config.derivative.build()

    def build_model(self) -> Student:
        """The student, which begins as its teacher, with an adversary if there is one."""
        return self.pair.judged()

    def step(self, model: Student, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip."""
        layout, rows = self.pair.clips.layout, self.times(rngs)
        clips = self.pair.noised(model.net, batch, rngs, level_of(rows), ranks)
        time, slots = clips.slots(rows), slot_tables(layout, clips.seen.device)
        x = clips.x * (time.cos() + time.sin())
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            slope = trigflow(clips.velocity(self.teacher.net))(x, time)
            student = trigflow(clips.velocity(self.derivative.network(model.net)))
            change = self.derivative(student, x, time, slope)
        g = tangent(change, slope, x, torch.where(time < self.config.anchor, 0, self.ratio(model.steps)))
        made = trigflow(clips.velocity(model.net))(x, time)
        row, counts = slots.row, clips.weight[:, slots.row_start]
        total = (tangent_loss(made, g, row, layout.num_rows) * counts).sum() / counts.sum()
        parts = {"consistency": total, **self.pair.adversarial(model, clips, data_of(x, time, made), rngs)}
        model.steps += int(model.training)
        sizes = per_row(g.nan_to_num(0, 0, 0).square().sum(-1), row, layout.num_rows).sqrt()
        known = {"tangent": (sizes * counts).sum() / counts.sum(), **parts}
        return Loss(sum(parts.values(), total.new_zeros(())), {name: value.detach() for name, value in known.items()})

    def times(self, rngs: Sequence[Rng]) -> Tensor:
        """t of each row of each clip, float64 [B, M]: log tan t is normal."""
        rows = self.pair.clips.layout.num_rows
        drawn = torch.stack([rng.normal("student_time", shape=(rows,)) for rng in rngs])
        return torch.atan(torch.exp(self.config.mean + self.config.std * drawn))

    def ratio(self, steps: Tensor) -> Tensor:
        """r: from 0, where the student imitates F of the teacher, to 1 after `warmup_steps`."""
        return (steps / self.config.warmup_steps).clamp(max=1.0) if self.config.warmup_steps else steps.new_ones(())

    def gap(self, model: Student, batch: LatentBatch, rngs: Sequence[Rng]) -> float:
        """See `Distillation.gap`: over 48 steps, shifted as in play."""
        k = self.config.world.flow.shift
        return self.pair.gap(model.net, batch, rngs, [shift(1 - n / PATH, k) for n in range(PATH + 1)])


def tangent(change: Change, slope: Tensor, x: Tensor, ratio: Tensor | float) -> Tensor:
    """-cos t sqrt(1 - (r sin t)^2) (F - F_T) - r (cos t sin t x + pace); with r = 1 it is cos t df/dt along the path.

    slope: F of the teacher, x [.., C]. The warm-up is that of rCM's code: r multiplies all of the second term, the
    change of F with it, as in sCM (algorithm 1); the first one is cos t at r = 0 and cos^2 t at r = 1, where sCM has
    cos^2 t throughout. So r = 0 is plain distillation of F.
    """
    cos, sin = change.time.cos(), change.time.sin()
    imitate = -cos * (1 - ratio**2 * sin**2).sqrt() * (change.here - slope)
    return imitate - ratio * (cos * sin * x + change.pace)


def tangent_loss(made: Tensor, g: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """|F - sg(F) - g / (|g| + 0.1)|^2 of each frame: F and g [B, S, C], row long [S] -> [B, M].

    The norm is that of a frame over its slots and channels. A frame with a number that is not finite counts as zero.
    """
    bad = per_row((~(made.isfinite() & g.isfinite())).sum(-1), row, num_rows)[:, row, None] > 0
    g = g / (per_row(g.square().sum(-1), row, num_rows).sqrt() + FLOOR)[:, row, None]
    return per_row(torch.where(bad, 0, made - made.detach() - g).square().sum(-1), row, num_rows)


def per_row(value: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Sums over the slots of each row, [B, S] -> [B, M]."""
    return value.new_zeros(len(value), num_rows).index_add(1, row, value)
