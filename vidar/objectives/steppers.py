"""From s = 1 (noise) to s = 0 (data): solvers of the probability flow dx/ds = v(x, s), and samplers of students.

A stepper is `update(x, v, call, levels, history, noise, unit) -> (x', history)`; noise() draws fresh noise for this
call; unit is the number of the unit being denoised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from vidar.objectives.protocols import Draw, StepperConfig


class EulerConfig(StepperConfig):
    """Euler: one model call per step."""

    plays_students: ClassVar[bool] = True
    whole_steps: ClassVar[bool] = True

    def build(self) -> Euler:
        """The stepper."""
        return Euler()


class Euler:
    """x' = x + (s' - s) v."""

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """All levels but the last."""
        return list(levels[:-1])

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """One step from x and v, both [n, C]."""
        return x + (levels[call + 1] - levels[call]) * v, None


class HeunConfig(StepperConfig):
    """Heun: two model calls per step, one for the last step."""

    def build(self) -> Heun:
        """The stepper."""
        return Heun()


class Heun:
    """Trapezoidal rule with an Euler predictor (EDM, algorithm 1).

    The last step is Euler, because no level follows it.
    """

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """s_0, s_1, s_1, s_2, s_2, ..: predictor and corrector of each step; the last step has no corrector."""
        calls: list[float] = []
        for n in range(len(levels) - 1):
            calls.append(levels[n])
            if n < len(levels) - 2:
                calls.append(levels[n + 1])
        return calls

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """Even calls predict and remember (x, v), both [n, C]; odd calls correct."""
        step = call // 2
        width = levels[step + 1] - levels[step]
        if call % 2 == 0:
            return x + width * v, (x, v)
        before, slope = history
        return before + width * 0.5 * (slope + v), None


class AdamsBashforthConfig(StepperConfig):
    """Adams-Bashforth of order 2: one model call per step. extrapolation: share of its second-order term; 0 is Euler.

    rise: in unit u of a video, counting the context, the share is extrapolation (1 - exp(-u / rise)); None: constant.

    Choice: a share that rises, because Euler averages detail and motion away in long dreams while the average is the
    best answer right after the context; for well-trained worlds only. Measurements: docs/notes/network.md.
    """

    plays_students: ClassVar[bool] = True

    extrapolation: float = Field(default=1.0, ge=0, le=2)
    rise: float | None = Field(default=None, gt=0)

    def build(self) -> AdamsBashforth:
        """The stepper."""
        return AdamsBashforth(self)


class AdamsBashforth:
    """x' = x + h (v + share h / (2 h_before) (v - v_before)), h = s' - s; the first step is Euler."""

    def __init__(self, config: AdamsBashforthConfig) -> None:
        self.config = config

    def share(self, unit: int) -> float:
        """Share of the second-order term in this unit."""
        rise = self.config.rise
        return self.config.extrapolation * (1.0 if rise is None else 1 - math.exp(-unit / rise))

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """All levels but the last."""
        return list(levels[:-1])

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """One step from x and v, both [n, C]; remembers v."""
        h, slope = levels[call + 1] - levels[call], v
        if history is not None:
            slope = v + self.share(unit) * 0.5 * h / (levels[call] - levels[call - 1]) * (v - history)
        return x + h * slope, v


class RenoiseConfig(StepperConfig):
    """The sampler of a consistency student (Song et al., "Consistency Models", 2023, algorithm 1)."""

    plays_students: ClassVar[bool] = True

    def build(self) -> Renoise:
        """The stepper."""
        return Renoise()


class Renoise:
    """Predict x0 = x - s v, then return to the next level with fresh noise: (1 - s') x0 + s' e."""

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """All levels but the last."""
        return list(levels[:-1])

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """One step from x and v, both [n, C]; the last step returns x0."""
        data, level = x - levels[call] * v, levels[call + 1]
        return (data if level == 0 else (1 - level) * data + level * noise()), None


class DPMSolverConfig(StepperConfig):
    """DPM-Solver++(2M) (Lu et al., 2022, algorithm 2): second order in one model call per step."""

    def build(self) -> DPMSolver:
        """The stepper."""
        return DPMSolver()


class DPMSolver:
    """Multistep on x0 = x - s v over lambda = log((1 - s) / s), with alpha = 1 - s and sigma = s.

    x' = s' / s x + (alpha' - alpha s' / s) D, with D = x0 + (x0 - x0_before) h / (2 h_before) and h = lambda' -
    lambda. D is x0 where a lambda is infinite: in the step from level 1, in the step after it, and in the step to
    level 0. With equal steps of s, the lambdas near both ends keep their distance however many steps there are, so
    doubling the steps reduces errors by less than 4.
    """

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """All levels but the last."""
        return list(levels[:-1])

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """One step from x and v, both [n, C]; remembers x0."""
        now, later = levels[call], levels[call + 1]
        data = x - now * v
        mixed = data
        if history is not None and levels[call - 1] < 1 and later > 0:
            h, before = _lambda(later) - _lambda(now), _lambda(now) - _lambda(levels[call - 1])
            mixed = data + 0.5 * h / before * (data - history)
        return later / now * x + ((1 - later) - (1 - now) * later / now) * mixed, data


def _lambda(level: float) -> float:
    """Half the log signal-to-noise ratio: log(alpha / sigma)."""
    return math.log((1 - level) / level)


class EulerMaruyamaConfig(StepperConfig):
    """Euler-Maruyama, the sampler of xAR. last: level of the last call, after which no noise is added."""

    last: float = Field(default=0.04, gt=0, lt=1)

    def build(self) -> EulerMaruyama:
        """The stepper."""
        return EulerMaruyama(self)


class EulerMaruyama:
    """dx = (v + E[e]) ds + sqrt(2 s) dw from s = 1 down, E[e] = x + (1 - s) v: the marginals are those of the flow.

    The reverse SDE with diffusion 2 s (SiT, eq. 6, w = s): v - s score, score = - E[e] / s. The calls are at the
    given levels, stretched so that the last one is at `last`: for even levels linspace(1, last, N), then 0. With few
    calls it leaves noise, because each call adds the noise of its whole step and only later calls remove it.
    """

    def __init__(self, config: EulerMaruyamaConfig) -> None:
        self.last = config.last

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """All levels but the end, 0."""
        return self._levels(levels)[:-1]

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """One step; the last step adds no noise."""
        now, later = self._levels(levels)[call : call + 2]
        moved = x + (later - now) * (v + x + (1 - now) * v)
        return (moved + math.sqrt(2 * now * (now - later)) * noise() if later > 0 else moved), None

    def _levels(self, levels: Sequence[float]) -> list[float]:
        least = levels[-2]
        if least >= 1:
            return list(levels)
        return [self.last + (1 - self.last) * (s - least) / (1 - least) for s in levels[:-1]] + [0.0]
