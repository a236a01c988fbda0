"""Whether the model receives the step size of a call: needed by shortcut models.

A step from level a to level b < a has size a - b (Frans et al., "One Step Diffusion via Shortcut Models", 2024, with
levels for times). Size 0 requests the velocity at the point itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from torch import Tensor

from vidar.config import Config


class StepSize(Protocol):
    """Whether a call tells the model its step size, and how."""

    @property
    def width(self) -> int:
        """Number of further input columns."""
        ...

    def of_call(self, call: int) -> float:
        """The step size of a solver call."""
        ...

    def column(self, x: Tensor, size: float) -> Tensor:
        """The columns [n, width] for a state x [n, C]."""
        ...


class StepSizeConfig(Config):
    """Base class of the configs of step sizes. told: whether the model receives its step size."""

    told: ClassVar[bool] = False

    @abstractmethod
    def build(self, levels: Sequence[float]) -> StepSize:
        """The step size of a solver over `levels`, 1 down to 0."""


class UntoldConfig(StepSizeConfig):
    """The model knows its level alone."""

    def build(self, levels: Sequence[float]) -> NoStepSize:
        """The step size of a solver over `levels`, 1 down to 0."""
        return NoStepSize()


class NoStepSize:
    """No column."""

    width = 0

    def of_call(self, call: int) -> float:
        """No step size."""
        return 0.0

    def column(self, x: Tensor, size: float) -> Tensor:
        """[n, C] -> [n, 0]."""
        return x[:, :0]


class ToldConfig(StepSizeConfig):
    """One more input column, before the level: the size of the step, 0 in training of the velocity and in commits.

    The backbone needs `step_size` as well. The stepper is Euler: an output is applied over the whole step.
    """

    told: ClassVar[bool] = True

    def build(self, levels: Sequence[float]) -> GivenStepSize:
        """The step size of a solver over `levels`, 1 down to 0."""
        return GivenStepSize(levels)


class GivenStepSize:
    """One column."""

    width = 1

    def __init__(self, levels: Sequence[float]) -> None:
        self.sizes = [level - later for level, later in zip(levels, levels[1:])]

    def of_call(self, call: int) -> float:
        """The step size of this call."""
        return self.sizes[call]

    def column(self, x: Tensor, size: float) -> Tensor:
        """[n, C] -> [n, 1]."""
        return x.new_full((x.shape[0], 1), size)
