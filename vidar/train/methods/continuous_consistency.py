"""Continuous-time consistency distillation of a world: the limit of discrete consistency for an interval of zero.

sCM (Lu and Song, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models", 2024, algorithm 1), in the
form of the released code of rCM (NVlabs/rcm). The prediction f = cos t x - sin t F must not change along the teacher's
path, so the student moves against df/dt. As in Next-Frame Diffusion (NFD+, Cheng et al., 2025), every frame has its own
time and its own tangent norm.
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

FLOOR = 0.1  # constant added to the norm of a tangent
PATH = 48  # number of steps of the teacher's path in `gap`


class Change(NamedTuple):
    """here: F of the student [.., C]. pace: cos t sin t dF/dt along the teacher's path. time: the t [.., 1] of both."""

    here: Tensor
    pace: Tensor
    time: Tensor


class Derivative(Protocol):
    """The derivative of the student's F along the teacher's path."""

    def network(self, net: WorldNet) -> Callable[..., Tensor]:
        """The network to differentiate, with the same weights as the student."""
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
    """The exact derivative by forward-mode differentiation: one call of the student with twice the work."""

    def build(self) -> ForwardMode:
        """The derivative."""
        return ForwardMode()


class ForwardMode:
    """torch.func.jvp along (cos t sin t F_T, cos t sin t), the rearranged Jacobian-vector product of sCM."""

    def network(self, net: WorldNet) -> Callable[..., Tensor]:
        """The same weights with explicit attention, because fused attention has no forward-mode derivative."""
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
    """The derivative by finite differences, from a second call `size` radians closer to the data.

    It works with any network and any attention. Its error grows with the size (seen as discrete consistency on arcs of
    that size, it is exact). Choice: 0.02, which is 79 arcs from noise to data, instead of rCM's 1e-4: a level embedding
    has frequencies of up to 1,000 radians, and over a short arc their remainder in the output outweighs the rest. The
    arc is at most half of the remaining time. Measurement: docs/notes/students.md.
    """

    size: float = Field(default=0.02, gt=0)

    def build(self) -> Difference:
        """The derivative."""
        return Difference(self.size)


class Difference:
    """(cos h F(x, t) - F(x', t - h)) / sin h at x' = cos h x - sin h F_T, for the time t - h.

    Choice: the code of rCM uses t. With t - h the tangent is exactly cos(t - h) (f(x, t) - f(x', t - h)) / sin h, even
    if F is large because the network predicts x0; with t there is an additional error of the order h F / t.
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
    """mean, std: of t = arctan(exp(mean + std n)), drawn per frame. warmup_steps: steps until the full tangent is used.

    anchor: time in radians below which the student only imitates its teacher (r = 0), whose predictions are correct
    there up to terms in t^2. Choice: in sCM the network predicts F, so f(x, 0) = x always holds; a network that
    predicts x0 is not constrained at t = 0, and a prediction that only has to be constant along a path can be anything.

    Choice: P_mean 0 and P_std 1.6, as in the ablation of NFD; no guidance of the teacher, because worlds are played
    without it.
    """

    mean: float = 0.0
    std: float = Field(default=1.6, gt=0)
    warmup_steps: int = Field(default=1000, ge=0)
    anchor: float = Field(default=0.1, ge=0)
    derivative: DerivativeConfig = ForwardModeConfig()

    def build(self) -> ContinuousConsistency:
        """The method. Raises UsageError if the student's stepper cannot play students."""
        return ContinuousConsistency(self)


class ContinuousConsistency(Distilled):
    """`step` computes the loss on latent clips; `export` writes the student with the tokenizer of its teacher.

    Choices: teacher and derivative run in float32 whatever the precision of the run, because a tangent is a small
    difference. The loss does not have rCM's factor of 100, to which Adam is invariant and which would only activate the
    gradient clipping.
    """

    def __init__(self, config: ContinuousConsistencyConfig) -> None:
        self.config = config
        super().__init__(config)
        self.derivative = config.derivative.build()

    def build_model(self) -> Student:
        """The student, which starts with the teacher's weights, with an adversary if the config has one."""
        return self.pair.judged()

    def step(self, model: Student, batch: LatentBatch, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """The loss on a batch of latent clips, with one Rng per clip."""
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
        """The time t of each row of each clip, float64 [B, M]; log tan t is normally distributed."""
        rows = self.pair.clips.layout.num_rows
        drawn = torch.stack([rng.normal("student_time", shape=(rows,)) for rng in rngs])
        return torch.atan(torch.exp(self.config.mean + self.config.std * drawn))

    def ratio(self, steps: Tensor) -> Tensor:
        """The warm-up factor r: from 0, where the student imitates the teacher's F, to 1 after `warmup_steps`."""
        return (steps / self.config.warmup_steps).clamp(max=1.0) if self.config.warmup_steps else steps.new_ones(())

    def gap(self, model: Student, batch: LatentBatch, rngs: Sequence[Rng]) -> float:
        """See `Distillation.gap`; the teacher's path has 48 steps, shifted as in play."""
        k = self.config.world.flow.shift
        return self.pair.gap(model.net, batch, rngs, [shift(1 - n / PATH, k) for n in range(PATH + 1)])


def tangent(change: Change, slope: Tensor, x: Tensor, ratio: Tensor | float) -> Tensor:
    """-cos t sqrt(1 - (r sin t)^2) (F - F_T) - r (cos t sin t x + pace); with r = 1 it is cos t df/dt along the path.

    slope: the teacher's F [.., C]. x: [.., C]. ratio: r. The warm-up is that of rCM's code: r multiplies the whole
    second term, including the change of F, as in sCM (algorithm 1). The factor of the first term is cos t at r = 0 and
    cos^2 t at r = 1, while sCM always has cos^2 t. With r = 0 this is plain distillation of F.
    """
    cos, sin = change.time.cos(), change.time.sin()
    imitate = -cos * (1 - ratio**2 * sin**2).sqrt() * (change.here - slope)
    return imitate - ratio * (cos * sin * x + change.pace)


def tangent_loss(made: Tensor, g: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """|F - sg(F) - g / (|g| + 0.1)|^2 per frame: F and g [B, S, C], row long [S] -> [B, M].

    The norm is taken over the slots and channels of a frame (NFD+). A frame with a non-finite value has loss zero.
    """
    bad = per_row((~(made.isfinite() & g.isfinite())).sum(-1), row, num_rows)[:, row, None] > 0
    g = g / (per_row(g.square().sum(-1), row, num_rows).sqrt() + FLOOR)[:, row, None]
    return per_row(torch.where(bad, 0, made - made.detach() - g).square().sum(-1), row, num_rows)


def per_row(value: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Sums over the slots of each row, [B, S] -> [B, M]."""
    return value.new_zeros(len(value), num_rows).index_add(1, row, value)
