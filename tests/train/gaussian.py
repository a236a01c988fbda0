"""Data whose flow is known in closed form: one normal distribution, in rectified flow and in TrigFlow."""

import torch
from torch import nn

MEAN, STD = 0.7, 0.5  # of the data


def spread(level):
    """Deviation of x_s."""
    return ((1 - level) ** 2 * STD**2 + level**2) ** 0.5


def posterior_mean(x, level):
    """E[x0 | x_s]: what a perfect teacher answers."""
    return MEAN + (1 - level) * STD**2 / spread(level) ** 2 * (x - (1 - level) * MEAN)


def flow(x, level):
    """The end of the flow from x_s: what a perfect student answers."""
    return jump(x, level, 0 * level)


def jump(x, level, later):
    """Where the flow from x_s is at a later level."""
    return (1 - later) * MEAN + spread(later) * (x - (1 - level) * MEAN) / spread(level)


def at(level, z):
    """The point of the path number z (a standard normal) at a level."""
    return (1 - level) * MEAN + spread(level) * z


def trig_spread(time):
    """Deviation of x_t."""
    return (time.cos() ** 2 * STD**2 + time.sin() ** 2) ** 0.5


def trig_at(time, z):
    """The point of the path number z at a time."""
    return time.cos() * MEAN + trig_spread(time) * z


def trig_teacher(x, time):
    """dx/dt of the flow: (cos t x - E[x0 | x_t]) / sin t."""
    cos, sin = time.cos(), time.sin()
    mean = MEAN + cos * STD**2 / trig_spread(time) ** 2 * (x - cos * MEAN)
    return (cos * x - mean) / sin


def trig_student(x, time):
    """F of the exact consistency function: (cos t x - end of the flow) / sin t."""
    cos, sin = time.cos(), time.sin()
    return (cos * x - MEAN - STD * (x - cos * MEAN) / trig_spread(time)) / sin


class Line(nn.Module):
    """a(c) x + b(c), c whatever the network is told."""

    def __init__(self, told=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(told, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))

    def forward(self, x, *told):
        slope, shift = self.layers(torch.cat(told, -1)).chunk(2, -1)
        return slope * x + shift


def annealed(model, steps, loss, lr=5e-3):
    """Adam on loss(), the rate following half a cosine."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()
