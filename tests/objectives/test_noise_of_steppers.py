"""Where a stepper's fresh noise comes from and how much of it: keys, and a closed form on a Gaussian."""

import math

import pytest
import torch

from vidar.objectives.flow import FlowConfig
from vidar.objectives.steppers import EulerMaruyamaConfig, RenoiseConfig
from vidar.orders.frame import frame_order
from vidar.rng import Rng
from vidar.types import Past

M, C = 0.5, 0.3  # x0 ~ N(M, C^2)


def test_fresh_noise_is_the_draw_of_its_unit_and_call():
    """Four calls of one unit and the first of the next: x' = (1 - s') x0 + s' e, each e of a key of its own."""
    flow = FlowConfig(steps=4, stepper=RenoiseConfig()).build(3, frame_order(2, 2, 4)[1], torch.float64)
    rng, drawn = Rng(5, 7), []
    for unit, calls in ((2, (0, 1, 2)), (3, (0,))):
        x = flow.start(unit, Past({}, {}), rng)
        for call in calls:
            v = torch.full_like(x.x, 0.1 * (call + 1))
            data, level = x.x - flow.levels[call] * v, flow.levels[call + 1]
            x = flow.update(unit, x, v, call, rng)
            drawn.append((x.x - (1 - level) * data) / level)
            torch.testing.assert_close(drawn[-1], rng.normal("renoise", unit, call, data.shape).to(data))
    for n, one in enumerate(drawn):
        assert all((one - other).abs().max() > 0.1 for other in drawn[:n])
    last = flow.update(2, flow.start(2, Past({}, {}), rng), torch.zeros(4, 3), 3, rng)
    assert torch.equal(last.x, flow.start(2, Past({}, {}), rng).x)  # at level 0 there is none


def step(s, later):
    """x' = gain x + shift + spread e, of Euler-Maruyama of dx = (v + E[e]) ds + sqrt(2 s) dw on the Gaussian."""
    slope = (s - (1 - s) * C**2) / ((1 - s) ** 2 * C**2 + s**2)  # v = slope (x - (1 - s) M) - M
    gain = 1 + (later - s) * (slope + 1 + (1 - s) * slope)
    shift = (later - s) * (2 - s) * (-slope * (1 - s) * M - M)
    return gain, shift, math.sqrt(2 * s * (s - later)) if later > 0 else 0.0


@pytest.mark.parametrize("steps", [4, 10])
def test_euler_maruyama_spreads_by_the_diffusion_at_the_start_of_a_step(steps):
    """Mean and variance of n = 20,000 draws are those of the recursion by hand, within 5 standard errors."""
    n, rng = 20_000, Rng(3)
    flow = FlowConfig(steps=steps, stepper=EulerMaruyamaConfig()).build(1, frame_order(1, 1, 1)[1], torch.float64)
    x, mean, variance = rng.normal("start", 0, 0, (n,)), 0.0, 1.0
    for call, s in enumerate(flow.calls):
        later = [*flow.calls, 0.0][call + 1]
        v = (s - (1 - s) * C**2) / ((1 - s) ** 2 * C**2 + s**2) * (x - (1 - s) * M) - M
        x, _ = flow.stepper.update(
            x, v, call, flow.levels, None, lambda call=call: rng.normal("renoise", 0, call, (n,)), 0
        )
        gain, shift, spread = step(s, later)
        mean, variance = gain * mean + shift, gain**2 * variance + spread**2
        assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n), call
        assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / (n - 1)), call


def test_euler_maruyama_leaves_noise_in_few_calls():
    """Of data that are all M, v + E[e] is 2 (x - M) / s + M, so a step multiplies the deviation by 2 s' / s - 1.

    All deviation at the end is noise that was left; the last step, to s' = 0, takes none away.
    """
    left = []
    for calls in (4, 25, 400):
        flow = FlowConfig(steps=calls, stepper=EulerMaruyamaConfig()).build(1, frame_order(1, 1, 1)[1], torch.float64)
        x, e = torch.tensor([M, M + 1, M], dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        variance = by_hand = 1.0
        for call, (s, later) in enumerate(zip(flow.calls, [*flow.calls[1:], 0.0])):
            made, _ = flow.stepper.update(x, (x - M) / s, call, flow.levels, None, lambda e=e: e, 0)
            variance = float(made[1] - made[0]) ** 2 * variance + float(made[2] - made[0]) ** 2
            by_hand = (2 * later / s - 1) ** 2 * by_hand + (2 * s * (s - later) if later else 0)
        assert variance == pytest.approx(by_hand, rel=1e-9)
        left.append(math.sqrt(variance))
    assert left[0] > 0.5 > 0.1 > left[1] > 0.05 > left[2] > 0.04, left
