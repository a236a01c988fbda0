"""The meaning of the model output: the velocity, or the data, from which the velocity follows.

Sigma increases with noise: x_s = (1 - s) x0 + s e and v = e - x0, so x0 = x_s - s v.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from vidar.config import Config


class Prediction(Protocol):
    """What the network outputs, and how it becomes a velocity or data."""

    def target(self, clean: Tensor, noise: Tensor, hint: Tensor) -> Tensor:
        """What the network should output, [.., C]."""
        ...

    def velocity(self, x: Tensor, out: Tensor, level: float | Tensor, hint: Tensor) -> Tensor:
        """The velocity at x for an output, [.., C]."""
        ...

    def data(self, x: Tensor, out: Tensor, level: Tensor, hint: Tensor) -> Tensor:
        """The data estimate for an output, [.., C]."""
        ...

    def scale(self, level: Tensor) -> Tensor:
        """The factor of an output error that makes it a velocity error."""
        ...


class PredictionConfig(Config):
    """Base class of the configs of predictions."""

    @abstractmethod
    def build(self) -> Prediction:
        """The prediction."""


class VelocityConfig(PredictionConfig):
    """The output is v."""

    def build(self) -> Velocity:
        """The prediction."""
        return Velocity()


class Velocity:
    """out = v."""

    def target(self, clean: Tensor, noise: Tensor, hint: Tensor) -> Tensor:
        """e - x0, [.., C]."""
        return noise - clean

    def velocity(self, x: Tensor, out: Tensor, level: float | Tensor, hint: Tensor) -> Tensor:
        """The output itself, [.., C]."""
        return out

    def data(self, x: Tensor, out: Tensor, level: Tensor, hint: Tensor) -> Tensor:
        """x - s v, [.., C]."""
        return x - level * out

    def scale(self, level: Tensor) -> Tensor:
        """How much the output changes if v changes by 1; an error of v times this is an error of the output."""
        return torch.ones_like(level)


class DataConfig(PredictionConfig):
    """The output is x0 minus the hint, if there is one: a network that outputs zero repeats the previous frame.

    Choice: an unweighted squared error of x0, which equals the error of v weighted by s^2. It emphasises the levels
    at which little of x0 is visible, which matters most in short training.
    """

    def build(self) -> Data:
        """The prediction."""
        return Data()


class Data:
    """out = x0 - hint; v = (x - x0) / s."""

    def target(self, clean: Tensor, noise: Tensor, hint: Tensor) -> Tensor:
        """x0 - hint, [.., C]."""
        return clean - hint if hint.shape[-1] else clean

    def velocity(self, x: Tensor, out: Tensor, level: float | Tensor, hint: Tensor) -> Tensor:
        """(x - x0) / s, [.., C]."""
        return (x - (out + hint if hint.shape[-1] else out)) / level

    def data(self, x: Tensor, out: Tensor, level: Tensor, hint: Tensor) -> Tensor:
        """The output plus the hint, [.., C]."""
        return out + hint if hint.shape[-1] else out

    def scale(self, level: Tensor) -> Tensor:
        """How much the output changes if v changes by 1: s."""
        return level
