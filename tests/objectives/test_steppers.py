"""DPM-Solver++ and Euler-Maruyama on a Gaussian, whose flow is known: x0 ~ N(M, C^2), x_s = (1 - s) x0 + s e."""

import math

import pytest
import torch

from vidar.objectives.flow import FlowConfig
from vidar.objectives.steppers import DPMSolverConfig, EulerConfig, EulerMaruyamaConfig
from vidar.orders.frame import frame_order
from vidar.rng import Rng

M, C = 0.5, 0.3


def velocity(x, s):
    """E[e - x0 | x_s = x]."""
    moved, variance = x - (1 - s) * M, (1 - s) ** 2 * C**2 + s**2
    return s / variance * moved - (M + (1 - s) * C**2 / variance * moved)


def solved(config, x, noise=None):
    """x0 of the solver that starts from x at level 1. noise: of call i."""
    flow = config.build(1, frame_order(1, 1, 1)[1], torch.float64)
    history = None
    for i, level in enumerate(flow.calls):
        draw = (lambda i=i: noise(i)) if noise else lambda x=x: torch.zeros_like(x)
        x, history = flow.stepper.update(x, velocity(x, level), i, flow.levels, history, draw, 0)
    return x


def test_dpm_solver_is_of_second_order():
    """(x - (1 - s) M) / deviation(s) stays: between 0.9 and 0.1 the error falls by 4 where Euler's falls by 2."""

    def deviation(s):
        return math.sqrt((1 - s) ** 2 * C**2 + s**2)

    def error(stepper, steps):
        levels, history = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64).tolist(), None
        x = torch.tensor([1.7], dtype=torch.float64)
        want = 0.9 * M + deviation(0.1) * (x - 0.1 * M) / deviation(0.9)
        for i in range(steps):
            x, history = stepper.update(x, velocity(x, levels[i]), i, levels, history, lambda: want, 0)
        return float((x - want).abs())

    assert 3.7 < error(DPMSolverConfig().build(), 64) / error(DPMSolverConfig().build(), 128) < 4.3
    assert 1.8 < error(EulerConfig().build(), 64) / error(EulerConfig().build(), 128) < 2.2


def test_dpm_solver_from_noise_to_data():
    """The flow carries x1 to M + C x1. ACDiT's 25 steps are nearer by far than as many of Euler."""
    start = torch.tensor([-1.2, 0.4, 2.0], dtype=torch.float64)
    errors = [
        float((solved(FlowConfig(steps=25, stepper=stepper), start) - (M + C * start)).abs().max())
        for stepper in (DPMSolverConfig(), EulerConfig())
    ]
    assert errors[0] < 0.01 < 0.04 < errors[1]


def test_first_second_and_last_step_of_dpm_solver_are_eulers():
    """Where lambda is infinite at one end of a step there is no slope: three steps in all are three of Euler."""
    start = torch.tensor([-1.2, 0.4, 2.0], dtype=torch.float64)
    for steps, same in ((1, True), (2, True), (3, True), (4, False)):
        ends = [
            solved(FlowConfig(steps=steps, stepper=s, shift=2.0), start) for s in (DPMSolverConfig(), EulerConfig())
        ]
        assert torch.allclose(*ends, rtol=0, atol=1e-12) == same


def test_levels_of_euler_maruyama():
    """t = linspace(1, 0.04, N), then 0."""
    flow = FlowConfig(steps=40, stepper=EulerMaruyamaConfig()).build(1, frame_order(1, 1, 1)[1])
    assert flow.calls == pytest.approx(torch.linspace(1, 0.04, 40).tolist(), abs=1e-6)
    single = FlowConfig(steps=1, stepper=EulerMaruyamaConfig()).build(1, frame_order(1, 1, 1)[1])
    assert single.calls == [1.0]


def moments(steps, last):
    """Mean and variance of what Euler-Maruyama makes: each step is affine in x and in its noise."""
    flow = FlowConfig(steps=steps, stepper=EulerMaruyamaConfig(last=last)).build(1, frame_order(1, 1, 1)[1])
    mean, variance = 0.0, 1.0
    for i, level in enumerate(flow.calls):

        def step(x, e, i=i, level=level):
            x, e = (torch.tensor([value], dtype=torch.float64) for value in (x, e))
            return float(flow.stepper.update(x, velocity(x, level), i, flow.levels, None, lambda: e, 0)[0])

        rest = step(mean, 0.0)
        variance = (step(mean + 1, 0.0) - rest) ** 2 * variance + (step(mean, 1.0) - rest) ** 2
        mean = rest
    return mean, variance


def test_euler_maruyama_draws_from_the_data():
    """Its moments go to those of the data, of first order in the step; in xAR's 40 steps they are near."""

    def error(steps):
        mean, variance = moments(steps, 1 / steps)
        return abs(mean - M) + abs(variance - C**2)

    assert error(400) < 0.01 and 1.7 < error(200) / error(400) < 2.3
    mean, variance = moments(40, 0.04)
    assert abs(mean - M) < 0.02 and abs(variance / C**2 - 1) < 0.2


def test_euler_maruyama_by_draws():
    """n = 4,000: mean and deviation as `moments` has them, within 5 standard errors."""
    n, rng = 4000, Rng(3)
    start = rng.normal("start", 0, 0, (n,))
    made = solved(
        FlowConfig(steps=10, stepper=EulerMaruyamaConfig()), start, lambda i: rng.normal("renoise", 0, i, (n,))
    )
    mean, variance = moments(10, 0.04)
    assert abs(float(made.mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(made.var()) / variance - 1) < 5 * math.sqrt(2 / n)
