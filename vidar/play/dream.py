"""What an engine notes of the dreams it moves on: where they begin, what is shown, what makes them again."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidar.conditioning.config import NOTHING, Told


@dataclass(frozen=True)
class ShownFrame:
    """A frame of a slot. number: counted from the start, which is 0. echo: the newest input it answers.

    read, ready: seconds (monotonic) when its keys were read, and when the picture was done.
    """

    number: int
    frame: np.ndarray
    echo: int
    read: float
    ready: float


@dataclass(frozen=True)
class Start:
    """Where a dream begins: context uint8 [T, H, W, 3], its actions [T, A] or None, and the seed of its noise.

    told: of the video as a whole, a prompt in words or a label.
    """

    frames: np.ndarray
    actions: np.ndarray | None
    seed: int
    told: Told = NOTHING


@dataclass
class Log:
    """What makes a played dream again: its start, and action and solver steps of every frame since.

    eager: how many of them were made before the engine went over to compiled calls.
    """

    start: Start
    rows: list[np.ndarray] = field(default_factory=list[np.ndarray])
    steps: list[int] = field(default_factory=list[int])
    eager: int = 0


Pictures = Future[np.ndarray]  # of a group of frames, uint8 [capacity, F, H, W, 3], being decoded


@dataclass(frozen=True)
class Piece:
    """One frame of one row in a group: number `place` of `pictures`; its action, the newest input that it answers.

    read: when the keys of the group were read. compiled: whether its calls were.
    """

    pictures: Pictures
    place: int
    action: np.ndarray
    echo: int
    steps: int
    read: float
    compiled: bool


@dataclass(frozen=True)
class Guess:
    """A group dreamed before its time: from where, under which actions, for which rows; its pictures."""

    snapshot: Any
    actions: np.ndarray
    rows: frozenset[int]
    steps: int
    frames: Pictures

    def fits(self, actions: np.ndarray, rows: frozenset[int]) -> bool:
        """Whether it is the group of these rows under these actions."""
        return self.rows == rows and np.array_equal(self.actions, actions)
