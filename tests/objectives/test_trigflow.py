"""TrigFlow against rectified flow: one path in two coordinates, and a normal distribution in closed form."""

import math

import torch

from vidar.objectives.trigflow import data_of, level_of, trigflow

MEAN, STD = 0.7, 0.5


def time_of(level):
    return torch.atan2(level, 1 - level)


def test_time_is_the_arctangent_of_the_ratio_and_back():
    level = torch.linspace(0, 1, 11, dtype=torch.float64)
    time = time_of(level)
    assert time[0] == 0 and abs(float(time[-1]) - math.pi / 2) < 1e-15
    torch.testing.assert_close(time[1:-1].tan(), (level / (1 - level))[1:-1])
    torch.testing.assert_close(level_of(time), level)


def test_velocity_of_a_normal_distribution_in_both_coordinates():
    """v(x_s, s) = (x_s - E[x0 | x_s]) / s, and F(x_t, t) = dx_t/dt: both in closed form."""
    level = torch.linspace(0.05, 1, 20, dtype=torch.float64)[:, None]
    time = time_of(level)
    z = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def velocity(x, s):
        variance = (1 - s) ** 2 * STD**2 + s**2
        return (x - MEAN - (1 - s) * STD**2 / variance * (x - (1 - s) * MEAN)) / s

    def path(t):
        return t.cos() * MEAN + (t.cos() ** 2 * STD**2 + t.sin() ** 2).sqrt() * z

    slope = (path(time + 1e-6) - path(time - 1e-6)) / 2e-6
    torch.testing.assert_close(trigflow(velocity)(path(time), time), slope, rtol=0, atol=1e-8)


def test_the_answer_is_the_same_x0():
    """x0 = x_s - s v = cos t x_t - sin t F, whatever the network says."""
    level = torch.tensor([[0.01], [0.3], [0.9], [1.0]], dtype=torch.float64)
    time, noisy = time_of(level), torch.randn(4, 3, dtype=torch.float64)
    said = torch.randn(4, 3, dtype=torch.float64)
    x = noisy * (time.cos() + time.sin())
    slope = trigflow(lambda x, s: said + x - noisy + s - level)(x, time)  # x and s arrive as they were
    torch.testing.assert_close(data_of(x, time, slope), noisy - level * said)
