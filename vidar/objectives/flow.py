"""Rectified flow with one noise level per unit.

Time convention: sigma increases with noise. x_s = (1 - s) x0 + s e; s = 1 is noise and s = 0 is data; the solver
integrates v = e - x0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.relation import Rule
from vidar.core.state import Content
from vidar.objectives.begin import BeginConfig, NoiseBeginConfig
from vidar.objectives.context import ContextNoiseConfig, mixed, with_level
from vidar.objectives.hint import HintConfig, NoHintConfig
from vidar.objectives.prediction import PredictionConfig, VelocityConfig
from vidar.objectives.protocols import Coded, ContextConfig, ObjectiveConfig, StepperConfig
from vidar.objectives.rows import rows_of, slot_tables
from vidar.objectives.step_size import StepSizeConfig, UntoldConfig
from vidar.objectives.steppers import EulerConfig
from vidar.orders.config import OrderConfig
from vidar.rng import Ahead, Rng, every, normals, uniforms
from vidar.types import MEMORY, QUERY, Loss, Pass, Past, Target

Level = TypeVar("Level", float, Tensor)


def shift(level: Level, k: float) -> Level:
    """Time shift k u / (1 + (k - 1) u) of a sigma-up level (SD3, eq. 23): k > 1 spends more steps on noise."""
    return k * level / (1 + (k - 1) * level)


class FlowConfig(ObjectiveConfig):
    """steps: solver steps in play. shift: time shift of their levels.

    mean, std: of the logit-normal training levels (SD3).

    p_context: share of noisy units whose training level is drawn like that of context, so that training on single
    copies (SINGLE) often meets what later units read in play. given: number of units at the start of a training clip
    that always have a context level; nothing precedes them, so their content is not to be learned. step_size: whether
    the model receives the step size of each call. begin: the initial state in play. shown: number of values that a
    memory shows of each site, as further input channels: a code, from which the data is predicted instead of from the
    hint, and marks, all 0 where the memory knows nothing. There the hint takes the place of that code.
    """

    steps: int = Field(default=8, ge=1)
    shift: float = Field(default=1.0, gt=0)
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    p_context: float = Field(default=0.0, ge=0, le=1)
    given: int = Field(default=0, ge=0)
    stepper: StepperConfig = EulerConfig()
    context: ContextConfig = ContextNoiseConfig()
    hint: HintConfig = NoHintConfig()
    prediction: PredictionConfig = VelocityConfig()
    step_size: StepSizeConfig = UntoldConfig()
    begin: BeginConfig = NoiseBeginConfig()
    shown: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> FlowConfig:
        if self.step_size.told and not self.stepper.whole_steps:
            raise ValueError("a model that receives its step size needs EulerConfig")
        return self

    def build(
        self,
        channels: int,
        grid: Grid,
        dtype: torch.dtype = torch.float32,
    ) -> Flow:
        """The objective over the units of a grid with `channels` values per site."""
        return Flow(self, channels, grid, dtype)

    def make(self, coded: Coded, grid: Grid, dtype: torch.dtype = torch.float32) -> Flow:
        """See `ObjectiveConfig`."""
        return self.build(coded.channels, grid, dtype)

    def shown_values(self) -> int:
        """See `ObjectiveConfig`."""
        return self.shown

    def calls(self, order: OrderConfig) -> int:
        """Number of solver steps."""
        return self.steps

    def with_calls(self, calls: int) -> FlowConfig:
        """A copy with another number of steps."""
        return self.replace(steps=calls)


class InFlight(NamedTuple):
    """x [n, C], the hint and what is shown [n, h + W], and the history of the stepper."""

    x: Tensor
    hint: Tensor
    history: Any


class Flow:
    """Objective whose passes are the solver's calls as QUERY, then the commit.

    Raw inputs: C channels, the columns of the hint and of the step size, and the level. A commit carries its hint
    too, because training with SINGLE, where a unit occurs once, does so.
    """

    def __init__(
        self,
        config: FlowConfig,
        channels: int,
        grid: Grid,
        dtype: torch.dtype = torch.float32,
    ):
        self.config, self.channels, self.grid, self.dtype = config, channels, grid, dtype
        self.stepper, self._noise = config.stepper.build(), Ahead("start")
        self.context = config.context.build()
        self.hint = config.hint.build(channels)
        self._hint = repr(config.hint), self.hint
        self.begin = config.begin.build()
        self.needs: Rule = lambda u, v: self.hint.needs(u, v) | self.begin.needs(u, v)
        self.device = torch.device("cpu")  # the device of the initial state
        self.prediction = config.prediction.build()
        self.levels = [shift(1 - n / config.steps, config.shift) for n in range(config.steps + 1)]
        self.calls = self.stepper.evaluations(self.levels)
        self.given: Mapping[int, Content] = {}
        self.step_size = config.step_size.build(self.levels)
        self.passes: tuple[Pass, ...] = (*((QUERY, i) for i in range(len(self.calls))), (MEMORY, None))
        self.beside = self.hint.width + config.shown  # columns between x and the step size
        self.input_width, self.output_width = channels + self.beside + self.step_size.width + 1, channels

    def noise(self, unit: int, rng: Rng) -> Tensor:
        """The noise [n, C] that a unit starts from."""
        drawn = self._noise.normal(rng, unit, (self.grid.sites(unit).shape[0], self.channels))
        return drawn.to(self.device, self.dtype)

    def on(self, device: torch.device) -> Flow:
        """A copy that decodes on a device; training inputs are computed on the device of the codes."""
        made = copy.copy(self)
        made.device = device
        return made

    def start(self, unit: int, past: Past, rng: Rng) -> InFlight:
        """The initial state, at level 1."""
        x = self.begin(unit, lambda v: past.codes[v], self.noise(unit, rng))
        return InFlight(x, self._played_hint(unit, past, rng, x), None)

    def inputs(self, unit: int, x: InFlight, step: int) -> Tensor:
        """x, hint, step size and level of this call, [n, I]."""
        return self._columns(x.x, x.hint, self.step_size.of_call(step), self.calls[step])

    def _columns(self, x: Tensor, hint: Tensor, size: float, level: float) -> Tensor:
        return with_level(torch.cat([x, hint, self.step_size.column(x, size)], dim=-1), level)

    def update(self, unit: int, x: InFlight, out: Tensor, step: int, rng: Rng) -> InFlight:
        """Let the stepper apply one model output, [n, C]."""
        v = self.prediction.velocity(x.x, out.to(x.x.device, self.dtype), self.calls[step], self._base(x.hint))

        def noise() -> Tensor:
            return rng.normal("renoise", unit, step, x.x.shape).to(x.x)

        moved, history = self.stepper.update(x.x, v, step, self.levels, x.history, noise, unit)
        return InFlight(moved, x.hint, history)

    def finish(self, x: InFlight) -> Tensor:
        """The code [n, C] is x at level 0."""
        return x.x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """What later units see, [n, I]: the code after the context transform at its play setting."""
        seen, level = self.context(unit, code.to(self.dtype), rng, play=True)
        return self._columns(seen, self._played_hint(unit, past, rng, seen), 0.0, level)

    def _played_hint(self, unit: int, past: Past, rng: Rng, like: Tensor) -> Tensor:
        hint = self.hint(unit, lambda v: self.context(v, past.codes[v].to(self.dtype), rng, play=True)[0], like)
        if not self.config.shown:
            return hint
        shown = like.new_zeros(len(like), self.config.shown) if past.shown is None else past.shown.to(like)
        return torch.cat([hint, self._shown(shown, hint)], dim=-1)

    def _shown(self, shown: Tensor, hint: Tensor) -> Tensor:
        """What is shown [.., W], with the hint in place of the code where the memory knows nothing."""
        known = (shown[..., self.channels :] != 0).any(-1, keepdim=True)
        if not hint.shape[-1]:
            return shown * known
        return torch.cat([torch.where(known, shown[..., : self.channels], hint), shown[..., self.channels :]], dim=-1)

    def _base(self, hint: Tensor) -> Tensor:
        """What the data is predicted from, out of the columns [.., h + W]: the code that is shown, or the hint."""
        return hint[..., self.hint.width :][..., : self.channels] if self.config.shown else hint

    def latents(self, codes: Mapping[int, Tensor]) -> Tensor:
        """See `Objective`; codes are latents."""
        sites = torch.cat([self.grid.sites(unit) for unit in codes])
        return torch.cat([*codes.values()])[sites.argsort()]

    def prepare(
        self,
        codes: Tensor,
        layout: Layout,
        rngs: Sequence[Rng],
        *,
        play: bool = False,
        levels: Tensor | None = None,
        context: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> tuple[Tensor, Target, None]:
        """Training inputs of all rows. Rows that only commit are context; every other row has a loss.

        codes [B, N, C] in site order -> seen [B, S, I], target [B, S, C]. `play` uses the play setting of the context
        transform and passes the step size of the call (else 0); `levels` [B, rows] replaces the drawn levels;
        `context` [B, N, C] replaces the codes in what later units see (commits and hints). shown: [B, N, W].
        """
        codes = codes.to(self.dtype)
        known = codes if context is None else context.to(self.dtype)
        rows = rows_of(layout, self.grid, self._hint, codes)
        asked, commits, past = rows.asked, rows.commits, rows.shown
        told = self.context.levels(past.numbers, rngs, play).to(codes.device)
        committed = self.context.of_units(past, known[:, past.sites], told, rngs)
        level = rows.levels(levels, self.training_levels, rngs)
        clean = codes[:, rows.noised.sites][:, asked.places]
        noise = rows.noised.normals(rngs, "start", codes)[:, asked.places]
        seen = codes.new_zeros(len(codes), layout.num_slots, self.input_width)
        x, hint, last = seen[..., : self.channels], self.hint_of(seen), seen[..., -1]
        x[:, asked.slots], last[:, asked.slots] = mixed(clean, noise, level), level.to(seen)
        x[:, commits.slots], last[:, commits.slots] = committed[:, commits.places], told[:, commits.number].to(seen)
        if rows.hint is not None and rows.blank is not None:
            hint[:, :, : self.hint.width] = committed.index_select(1, rows.hint).masked_fill_(rows.blank, 0)
        if self.config.shown:
            site = slot_tables(layout, codes.device).site
            there = seen.new_zeros(*seen.shape[:2], self.config.shown) if shown is None else shown.to(seen)[:, site]
            hint[:, :, self.hint.width :] = self._shown(there, hint[:, :, : self.hint.width])
        if play and self.step_size.width:
            sizes = [self.step_size.of_call(step) if step >= 0 else 0.0 for step in layout.row_step.tolist()]
            seen[..., -2] = seen.new_tensor(sizes)[layout.row.to(seen.device)]
        return seen, rows.target(self.prediction.target(clean, noise, self._base(hint[:, asked.slots]))), None

    def training_levels(self, units: Sequence[int], rngs: Sequence[Rng]) -> Tensor:
        """float64 [B, U]: sigmoid(mean + std n) with n ~ N(0, 1), or the level of context for a share of units."""
        n = normals(every(rngs, units), "level").unflatten(0, (len(rngs), len(units)))
        levels = _sigmoid((self.config.mean + self.config.std * n).float()).double()
        share = [1.0 if unit < self.config.given else self.config.p_context for unit in units]
        low = [number for number, p in enumerate(share) if p > 0]
        if low:
            here = [units[number] for number in low]
            drawn = uniforms(every(rngs, here), "context_share").unflatten(0, (len(rngs), len(here)))
            chosen = drawn < torch.tensor(share, dtype=torch.float64)[low]
            levels[:, low] = torch.where(chosen, self.context.levels(here, rngs, False), levels[:, low])
        return levels

    def estimate(self, seen: Tensor, out: Tensor) -> Tensor:
        """The x0 that a model output implies: seen [B, S, I], out [B, S, C] -> [B, S, C]."""
        base = self._base(self.hint_of(seen))
        return self.prediction.data(seen[..., : self.channels], out.to(seen), seen[..., -1:], base)

    def hint_of(self, seen: Tensor) -> Tensor:
        """The columns of the hint and of what is shown: [B, S, I] -> [B, S, h + W]."""
        return seen[..., self.channels : self.channels + self.beside]

    def loss(self, out: Tensor, target: Target, by_level: Tensor | float = 1.0) -> Loss:
        """Mean squared error over the slots with a target, weighted by level [B, S] (see weights.py)."""
        error = (out.to(torch.promote_types(out.dtype, torch.float32)) - target.value).square().mean(dim=-1) * by_level
        total = (error * target.weight).sum() / target.weight.sum()
        return Loss(total, {"flow": total.detach()})


def _sigmoid(x: Tensor) -> Tensor:
    """Sigmoid of each value separately: for contiguous values torch uses another formula that rounds differently."""
    apart = x.new_empty(*x.shape, 2)
    apart[..., 0] = x
    return apart[..., 0].sigmoid()
