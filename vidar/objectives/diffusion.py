"""Denoising diffusion with learned variances (Ho et al. 2020, DDPM; Nichol and Dhariwal 2021, Improved DDPM).

Time convention: k = 0 .. T - 1, where 0 is nearly clean. x_k = sqrt(a_k) x0 + sqrt(1 - a_k) e, with a_k the product
of 1 - beta up to k. The model receives k / T and predicts e and, per channel, v, which places the log variance of the
reverse step between that of q(x_{k-1} | x_k, x0) at v = -1 and log beta_k at v = 1 (Improved DDPM, eq. 15).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.relation import never
from vidar.core.state import Content
from vidar.objectives.context import CleanConfig, with_level, with_levels
from vidar.objectives.hint import NoHint
from vidar.objectives.protocols import Coded, ContextConfig, Draw, ObjectiveConfig
from vidar.objectives.rows import rows_of
from vidar.orders.config import OrderConfig
from vidar.rng import Rng, every, uniforms
from vidar.types import MEMORY, QUERY, Loss, Pass, Past, Target


@dataclass(frozen=True)
class Betas:
    """A noise schedule, all float64 [T]: beta, alpha_bar (a), before (a of the previous step), least (log variance).

    least: log variance of q(x_{k-1} | x_k, x0); at k = 0 that of k = 1, because its own is log 0. time: k in the
    schedule of training.
    """

    beta: Tensor
    alpha_bar: Tensor
    before: Tensor
    least: Tensor
    time: Tensor

    @classmethod
    def linear(cls, count: int, first: float, last: float) -> Betas:
        """Betas that rise linearly (DDPM, section 4)."""
        beta = torch.linspace(first, last, count, dtype=torch.float64)
        return cls.of(torch.cumprod(1 - beta, 0), torch.arange(count))

    @classmethod
    def of(cls, alpha_bar: Tensor, time: Tensor) -> Betas:
        """Betas from the cumulative products `alpha_bar`."""
        before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        beta = 1 - alpha_bar / before
        least = torch.log(beta * (1 - before) / (1 - alpha_bar))
        least[0] = least[1] if len(least) > 1 else beta[0].log()
        return cls(beta, alpha_bar, before, least, time)

    def to(self, device: torch.device) -> Betas:
        """A copy on a device."""
        return Betas(*(getattr(self, one.name).to(device) for one in fields(self)))

    def respaced(self, steps: int) -> Betas:
        """A schedule of `steps` of these steps, evenly spaced and with both ends (Improved DDPM, section 4).

        Choice: a single step is the noisy end.
        """
        count = len(self.beta)
        stride = (count - 1) / max(steps - 1, 1)
        kept = torch.tensor([round(n * stride) for n in range(steps)] if steps > 1 else [count - 1])
        return Betas.of(self.alpha_bar[kept], self.time[kept])

    def log_variance(self, n: Tensor | int, v: Tensor) -> Tensor:
        """Log variance of the reverse step at place n, an int or long [..], for v [.., C] (Improved DDPM, eq. 15)."""
        share = (v + 1) / 2
        return share * self.beta[n].log()[..., None].to(v) + (1 - share) * self.least[n][..., None].to(v)

    def mean_weights(self, n: Tensor | int) -> tuple[Tensor, Tensor]:
        """Weights of x0 and x_k in the mean of q(x_{k-1} | x_k, x0) (DDPM, eq. 7)."""
        noise = 1 - self.alpha_bar[n]
        data = self.before[n].sqrt() * self.beta[n] / noise
        return data, (1 - self.beta[n]).sqrt() * (1 - self.before[n]) / noise


def noised(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_k = sqrt(a) x0 + sqrt(1 - a) e (DDPM, eq. 4); the arguments broadcast, [.., n, C] and alpha_bar [..]."""
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise


def data_of(x: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x0 from x_k and e, [.., n, C]."""
    return (x - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


class Sampler(Protocol):
    """One step of a reverse chain."""

    def step(self, x: Tensor, noise: Tensor, v: Tensor, n: int, chain: Betas, draw: Draw) -> Tensor:
        """From place n of the schedule to n - 1. noise, v: model outputs, [n, C]."""
        ...


class SamplerConfig(Config):
    """Base class of the configs of samplers of diffusion."""

    @abstractmethod
    def build(self) -> Sampler:
        """The sampler."""


class AncestralConfig(SamplerConfig):
    """DDPM sampling: every reverse step is drawn."""

    def build(self) -> Ancestral:
        """The sampler."""
        return Ancestral()


class Ancestral:
    """x_{k-1} ~ N(mean of q at the estimated x0, learned variance); the last step adds no noise."""

    def step(self, x: Tensor, noise: Tensor, v: Tensor, n: int, chain: Betas, draw: Draw) -> Tensor:
        """From place n of the schedule to n - 1. noise, v: model outputs, [n, C]."""
        of_data, of_x = chain.mean_weights(n)
        mean = of_data * data_of(x, noise, chain.alpha_bar[n]) + of_x * x
        return mean if n == 0 else mean + torch.exp(0.5 * chain.log_variance(n, v)) * draw()


class DDIMConfig(SamplerConfig):
    """DDIM (Song et al. 2021, eq. 12 and 16). eta: 0 is deterministic, 1 has the variance of q(x_{k-1} | x_k, x0)."""

    eta: float = Field(default=0.0, ge=0, le=1)

    def build(self) -> DDIM:
        """The sampler."""
        return DDIM(self.eta)


class DDIM:
    """x_{k-1} = sqrt(a') x0 + sqrt(1 - a' - sigma^2) e + sigma z."""

    def __init__(self, eta: float) -> None:
        self.eta = eta

    def step(self, x: Tensor, noise: Tensor, v: Tensor, n: int, chain: Betas, draw: Draw) -> Tensor:
        """See `Ancestral.step`; the learned variance is not used."""
        after = chain.before[n]
        variance = self.eta**2 * (1 - after) / (1 - chain.alpha_bar[n]) * chain.beta[n]
        moved = after.sqrt() * data_of(x, noise, chain.alpha_bar[n]) + (1 - after - variance).sqrt() * noise
        return moved if not self.eta or n == 0 else moved + variance.sqrt() * draw()


class DiffusionConfig(ObjectiveConfig):
    """steps: number of sampler steps, a subset of the `count` training steps. first, last: ends of the linear betas.

    vlb: weight of the variational bound, in bits per dimension, added to the squared error of e (1 with count 1000
    corresponds to Improved DDPM's 0.001 of the sum over k).
    """

    steps: int = Field(default=100, ge=1)
    count: int = Field(default=1000, ge=2)
    first: float = Field(default=1e-4, gt=0, lt=1)
    last: float = Field(default=0.02, gt=0, lt=1)
    sampler: SamplerConfig = AncestralConfig()
    context: ContextConfig = CleanConfig()
    vlb: float = Field(default=1.0, ge=0)

    def build(self, channels: int, grid: Grid, dtype: torch.dtype = torch.float32) -> Diffusion:
        """The objective over the units of a grid with `channels` values per site."""
        return Diffusion(self, channels, grid, dtype)

    def make(self, coded: Coded, grid: Grid, dtype: torch.dtype = torch.float32) -> Diffusion:
        """See `ObjectiveConfig`."""
        return self.build(coded.channels, grid, dtype)

    def calls(self, order: OrderConfig) -> int:
        """Number of sampler steps."""
        return self.steps

    def with_calls(self, calls: int) -> DiffusionConfig:
        """A copy with another number of steps."""
        return self.replace(steps=calls)


class Diffusion:
    """Objective whose passes are the reverse steps as QUERY, then the commit. Raw inputs: C channels and k / T."""

    def __init__(self, config: DiffusionConfig, channels: int, grid: Grid, dtype: torch.dtype = torch.float32):
        if config.steps > config.count:
            raise ValueError(f"steps {config.steps} exceed the {config.count} steps of training")
        self.config, self.channels, self.grid, self.dtype = config, channels, grid, dtype
        self.whole = Betas.linear(config.count, config.first, config.last)
        self._wholes = {self.whole.beta.device: self.whole}
        self.chain = self.whole.respaced(config.steps)
        self.sampler = config.sampler.build()
        self.context = config.context.build()
        self.levels = [*(self.chain.time.flip(0) / config.count).tolist(), 0.0]
        self.calls = self.levels[:-1]
        self.needs = never
        self.given: Mapping[int, Content] = {}
        self.passes: tuple[Pass, ...] = (*((QUERY, i) for i in range(config.steps)), (MEMORY, None))
        self.input_width, self.output_width = channels + 1, 2 * channels

    def _whole(self, device: torch.device) -> Betas:
        """The training schedule on a device, copied once."""
        if device not in self._wholes:
            self._wholes[device] = self.whole.to(device)
        return self._wholes[device]

    def noise(self, unit: int, rng: Rng) -> Tensor:
        """The noise [n, C] that a unit starts from."""
        return rng.normal("start", unit, 0, (self.grid.sites(unit).shape[0], self.channels)).to(self.dtype)

    def start(self, unit: int, past: Past, rng: Rng) -> Tensor:
        """The initial state: noise [n, C]."""
        return self.noise(unit, rng)

    def inputs(self, unit: int, x: Tensor, step: int) -> Tensor:
        """x and k / T of this call, [n, I]."""
        return with_level(x, self.calls[step])

    def update(self, unit: int, x: Tensor, out: Tensor, step: int, rng: Rng) -> Tensor:
        """One reverse step from x [n, C] and the model output out [n, 2 C]."""
        noise, v = out.to(x).chunk(2, dim=-1)
        place = self.config.steps - 1 - step
        return self.sampler.step(
            x, noise, v, place, self.chain, lambda: rng.normal("renoise", unit, step, x.shape).to(x)
        )

    def finish(self, x: Tensor) -> Tensor:
        """The code [n, C] is the result of the last step."""
        return x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """What later units see, [n, I]: the code after the context transform, and its level."""
        return with_level(*self.context(unit, code.to(self.dtype), rng, play=True))

    def latents(self, codes: Mapping[int, Tensor]) -> Tensor:
        """See `Objective`; codes are latents."""
        sites = torch.cat([self.grid.sites(unit) for unit in codes])
        return torch.cat([*codes.values()])[sites.argsort()]

    def training_levels(self, units: Sequence[int], rngs: Sequence[Rng]) -> Tensor:
        """float64 [B, U] for every row and unit: k / T with k uniform in 0 .. T - 1."""
        drawn = uniforms(every(rngs, units), "level").unflatten(0, (len(rngs), len(units)))
        return (drawn * self.config.count).floor() / self.config.count

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

        codes [B, N, C] in site order -> seen [B, S, I], target [B, S, C + 1]: e and k. `play` uses the play setting
        of the context transform; `levels` [B, rows], k / T, replaces the drawn levels; `context` [B, N, C] replaces
        the codes in what later units see. Raises ValueError for `shown`.
        """
        if shown is not None:
            raise ValueError("diffusion takes nothing from a memory; a world with one is a rectified flow")
        codes = codes.to(self.dtype)
        known = codes if context is None else context.to(self.dtype)
        rows = rows_of(layout, self.grid, ("no hint", NoHint()), codes)
        asked, commits, past = rows.asked, rows.commits, rows.shown
        told = self.context.levels(past.numbers, rngs, play).to(codes.device)
        committed = self.context.of_units(past, known[:, past.sites], told, rngs)
        k = (rows.levels(levels, self.training_levels, rngs) * self.config.count).round()
        clean = codes[:, rows.noised.sites][:, asked.places]
        noise = rows.noised.normals(rngs, "start", codes)[:, asked.places]
        x = noised(clean, noise, self._whole(codes.device).alpha_bar[k.long()][..., None].to(clean))
        seen = codes.new_zeros(len(codes), layout.num_slots, self.input_width)
        seen[:, asked.slots] = with_levels(x, k / self.config.count)
        seen[:, commits.slots] = with_levels(committed[:, commits.places], told[:, commits.number])
        return seen, rows.target(with_levels(noise, k)), None

    def loss(self, out: Tensor, target: Target) -> Loss:
        """Squared error of e, which trains no variance, plus the bound, which trains no mean (eq. 16)."""
        out = out.to(torch.promote_types(out.dtype, torch.float32))
        (noise, v), k = out.chunk(2, dim=-1), target.value[..., -1].round().long()
        true = target.value[..., :-1].to(noise)
        simple = (noise - true).square().mean(dim=-1)
        bound = self.bound(noise.detach(), v, true, k)
        total = target.weight.sum()
        parts = [(part * target.weight).sum() / total for part in (simple, bound)]
        names = {"simple": parts[0].detach(), "vlb": parts[1].detach()}
        return Loss(parts[0] + self.config.vlb * parts[1], names)

    def bound(self, noise: Tensor, v: Tensor, true: Tensor, k: Tensor) -> Tensor:
        """One step's term of the bound in bits per dimension, [..]: KL(q || p), and -log p(x0 | x_0) at k = 0.

        noise, v: model outputs [.., C]; true: e; k long [..]. The two means differ by the error of x0, which follows
        from that of e. Choice: a density at k = 0, because latents are not quantised to 256 values.
        """
        whole = self._whole(k.device)
        variance, least = whole.log_variance(k, v), whole.least[k][..., None].to(v)
        of_data = whole.mean_weights(k)[0] * ((1 - whole.alpha_bar) / whole.alpha_bar).sqrt()[k]
        off = of_data[..., None].to(v) * (noise - true)
        spread = off.square() * torch.exp(-variance)
        divergence = 0.5 * (variance - least + torch.exp(least - variance) + spread - 1)
        density = 0.5 * (math.log(2 * math.pi) + variance + spread)
        return torch.where((k == 0)[..., None], density, divergence).mean(dim=-1) / math.log(2)
