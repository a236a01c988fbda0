"""What a table notes of the dreams it moves on: where they begin, what is shown, what makes them again."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from vidar.rollout.driver import Snapshot


@dataclass(frozen=True)
class Shown:
    """A frame of a seat. number: counted from the start, which is 0. echo: the newest input it answers.

    read, ready: seconds (monotonic) when its keys were read, and when the picture was done.
    """

    number: int
    frame: np.ndarray
    echo: int
    read: float
    ready: float


@dataclass(frozen=True)
class Start:
    """Where a dream begins: context uint8 [T, H, W, 3], its actions [T, A] or None, and the seed of its noise."""

    frames: np.ndarray
    actions: np.ndarray | None
    seed: int


@dataclass
class Log:
    """What makes a played dream again: its start, and action and solver steps of every frame since.

    eager: how many of them were made before the table went over to compiled calls.
    """

    start: Start
    rows: list[np.ndarray] = field(default_factory=list[np.ndarray])
    steps: list[int] = field(default_factory=list[int])
    eager: int = 0


Pictures = Future[np.ndarray]  # uint8 [capacity, H, W, 3], being decoded


@dataclass(frozen=True)
class Guess:
    """Frames [capacity] dreamed before their time: from where, under which actions, for which rows; their pictures."""

    snapshot: Snapshot
    actions: np.ndarray
    rows: frozenset[int]
    steps: int
    frames: Pictures

    def fits(self, actions: np.ndarray, rows: frozenset[int]) -> bool:
        """Whether it is the frame of these rows under these actions."""
        return self.rows == rows and np.array_equal(self.actions, actions)
