"""What the model's answer means: the velocity itself, or the data, from which the velocity follows.

Sigma up: x_s = (1 - s) x0 + s e, v = e - x0, so x0 = x_s - s v (causal-diffusion 1.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidar.config import Config


class VelocityConfig(Config):
    """The answer is v."""

    def build(self) -> Velocity:
        """The prediction."""
        return Velocity()


class Velocity:
    """out = v."""

    def target(self, clean: Tensor, noise: Tensor, hint: Tensor) -> Tensor:
        """e - x0."""
        return noise - clean

    def velocity(self, x: Tensor, out: Tensor, level: float | Tensor, hint: Tensor) -> Tensor:
        """The answer itself."""
        return out

    def data(self, x: Tensor, out: Tensor, level: Tensor, hint: Tensor) -> Tensor:
        """x - s v."""
        return x - level * out

    def scale(self, level: Tensor) -> Tensor:
        """How far the answer moves where v moves by 1: an error of v times this is an error of the answer."""
        return torch.ones_like(level)


class DataConfig(Config):
    """The answer is x0, less the hint where there is one: a model that says nothing repeats the frame before.

    Choice: an unweighted squared error on x0, which is the error on v weighted by s^2: it asks most where little of x0
    is seen. In a few minutes of training it is the part that matters.
    """

    def build(self) -> Data:
        """The prediction."""
        return Data()


class Data:
    """out = x0 - hint; v = (x - x0) / s."""

    def target(self, clean: Tensor, noise: Tensor, hint: Tensor) -> Tensor:
        """x0 - hint."""
        return clean - hint if hint.shape[-1] else clean

    def velocity(self, x: Tensor, out: Tensor, level: float | Tensor, hint: Tensor) -> Tensor:
        """(x - x0) / s."""
        return (x - (out + hint if hint.shape[-1] else out)) / level

    def data(self, x: Tensor, out: Tensor, level: Tensor, hint: Tensor) -> Tensor:
        """The answer on top of the hint."""
        return out + hint if hint.shape[-1] else out

    def scale(self, level: Tensor) -> Tensor:
        """How far the answer moves where v moves by 1: s."""
        return level
