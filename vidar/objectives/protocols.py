"""The slots of an objective: what a solver and a context transform are, and the bases of their configs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from vidar.config import Config
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.objectives.rows import Units
from vidar.orders.config import OrderConfig, Size
from vidar.rng import Rng
from vidar.types import UsageError

Draw = Callable[[], Tensor]  # fresh noise, of the shape of what is stepped


class Stepper(Protocol):
    """A solver of the probability flow: which levels the model is asked at, and what to do with each answer."""

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """levels, from 1 (noise) down to 0 (data) -> the levels of the model calls, in order."""
        ...

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """One answer, the velocity v at x, both [n, C] -> (x to ask next, history for the next update).

        call: its number. history: what the update before returned, None at first. noise: draws anew. unit: its number.
        """
        ...


class StepperConfig(Config):
    """Base of the configs of solvers.

    plays_students: whether a few-step student may be played by it: one call for each of its steps, at their levels.
    """

    plays_students: ClassVar[bool] = False

    @abstractmethod
    def build(self) -> Stepper:
        """The solver."""


@dataclass(frozen=True)
class Coded:
    """What an objective is told of codes: numbers a site, and what makes the tokenizer's pyramid, where it has one.

    sizes: of every scale of every pyramid, where units are the scales of whole pyramids.
    """

    channels: int
    pyramid: Callable[[], Any] | None = None
    sizes: Sequence[Sequence[Size]] = ()


class ObjectiveConfig(Config):
    """Base of the configs of objectives.

    codes: what it takes: "latents", or, of a tokenizer of pyramids, "scales" of endless frames or whole "pyramids".
    """

    codes: ClassVar[str] = "latents"

    @abstractmethod
    def make(self, coded: Coded, grid: Grid, dtype: torch.dtype = torch.float32) -> Objective:
        """The objective over the units of a grid."""

    @abstractmethod
    def calls(self, order: OrderConfig) -> int:
        """Calls of the network for a frame, as a user counts them: solver steps, scales."""

    def with_calls(self, calls: int) -> Self:
        """The same with another number of calls. Raises UsageError where they follow from something else."""
        raise UsageError("the calls of a frame cannot be changed; leave --steps out")


class ContextTransform(Protocol):
    """Part of `prepare`: changes what later units see of a unit. Play uses the same object, with its play setting."""

    def __call__(self, unit: int, code: Tensor, rng: Rng, play: bool) -> tuple[Tensor, float]:
        """code [n, C] -> (what is committed [n, C], the level that the model is told)."""
        ...

    def level(self, unit: int, rng: Rng, play: bool) -> float:
        """The level of a unit, that of play or a drawn one."""
        ...

    def levels(self, units: Sequence[int], rngs: Sequence[Rng], play: bool) -> Tensor:
        """Of many units of every row, float64 [B, U]; the draws of `level`."""
        ...

    def of_units(self, units: Units, codes: Tensor, levels: Tensor, rngs: Sequence[Rng]) -> Tensor:
        """Codes [B, P, C] of units at their levels [B, U] -> what is committed; the draws of `__call__`."""
        ...


class ContextConfig(Config):
    """Base of the configs of context transforms."""

    @abstractmethod
    def build(self) -> ContextTransform:
        """The transform."""
