"""The protocols of solvers and context transforms, and the base classes of their configs."""

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

Draw = Callable[[], Tensor]  # fresh noise, in the shape of the state


class Stepper(Protocol):
    """A solver of the probability flow: at which levels it calls the model, and how it uses each output."""

    def evaluations(self, levels: Sequence[float]) -> list[float]:
        """levels, from 1 (noise) down to 0 (data) -> the levels of the model calls, in order."""
        ...

    def update(
        self, x: Tensor, v: Tensor, call: int, levels: Sequence[float], history: Any, noise: Draw, unit: int
    ) -> tuple[Tensor, Any]:
        """Apply one model output, the velocity v at x, both [n, C]. Returns (next x, history for the next update).

        call: number of the call. history: returned by the previous update, None at first. noise: draws fresh noise.
        unit: number of the unit.
        """
        ...


class StepperConfig(Config):
    """Base of the configs of solvers.

    plays_students: whether a few-step student may be played by it: one call for each of its steps, at their levels.
    whole_steps: whether each output is applied over the whole step that the model was told.
    """

    plays_students: ClassVar[bool] = False
    whole_steps: ClassVar[bool] = False

    @abstractmethod
    def build(self) -> Stepper:
        """The solver."""


@dataclass(frozen=True)
class Coded:
    """What an objective receives about codes: values per site, and a builder of the tokenizer's pyramid, if any."""

    channels: int
    pyramid: Callable[[], Any] | None = None
    sizes: Sequence[Sequence[Size]] = ()


class ObjectiveConfig(Config):
    """Base of the configs of objectives.

    codes: what the objective takes: "latents", or "scales" of a pyramid tokenizer.
    """

    codes: ClassVar[str] = "latents"

    def shown_values(self) -> int:
        """The values of a site that a memory shows to the network."""
        return 0

    @abstractmethod
    def make(self, coded: Coded, grid: Grid, dtype: torch.dtype = torch.float32) -> Objective:
        """The objective over the units of a grid."""

    @abstractmethod
    def calls(self, order: OrderConfig) -> int:
        """Network calls per frame as a user counts them: solver steps or scales."""

    def with_calls(self, calls: int) -> Self:
        """A copy with another number of calls. Raises UsageError if the number follows from something else."""
        raise UsageError("the number of calls per frame cannot be changed; leave out --steps")


class ContextTransform(Protocol):
    """The part of `prepare` that changes what later units see. Play uses the same object with its play setting."""

    def __call__(self, unit: int, code: Tensor, rng: Rng, play: bool) -> tuple[Tensor, float]:
        """code [n, C] -> (what is committed [n, C], the level that the model receives)."""
        ...

    def level(self, unit: int, rng: Rng, play: bool) -> float:
        """The level of a unit: fixed in play, drawn in training."""
        ...

    def levels(self, units: Sequence[int], rngs: Sequence[Rng], play: bool) -> Tensor:
        """Levels of many units of every row, float64 [B, U], with the same draws as `level`."""
        ...

    def of_units(self, units: Units, codes: Tensor, levels: Tensor, rngs: Sequence[Rng]) -> Tensor:
        """Codes [B, P, C] of units with levels [B, U] -> what is committed, with the same draws as `__call__`."""
        ...


class ContextConfig(Config):
    """Base of the configs of context transforms."""

    @abstractmethod
    def build(self) -> ContextTransform:
        """The transform."""
