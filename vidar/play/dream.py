"""The records of dreams that an engine keeps: their starts, shown frames, and logs from which they can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidar.conditioning.config import NOTHING, Told
from vidar.rollout.memory import Chart


@dataclass(frozen=True)
class ShownFrame:
    """A frame of a slot. number: counted from the start, which is 0. echo: the newest input it answers.

    read, ready: times in seconds (monotonic) at which its keys were read and its picture was finished.
    """

    number: int
    frame: np.ndarray
    echo: int
    read: float
    ready: float


@dataclass(frozen=True)
class Start:
    """Where a dream begins: context uint8 [T, H, W, 3], its actions [T, A] or None, and the seed of its noise.

    told: prompt or label of the dream.
    """

    frames: np.ndarray
    actions: np.ndarray | None
    seed: int
    told: Told = NOTHING


@dataclass
class Log:
    """From which a played dream can be replayed: its start, and the action and solver steps of every frame since.

    eager: number of frames made before the engine changed to compiled calls.
    """

    start: Start
    rows: list[np.ndarray] = field(default_factory=list[np.ndarray])
    steps: list[int] = field(default_factory=list[int])
    eager: int = 0


@dataclass(frozen=True)
class Pictures:
    """A group of frames, uint8 [capacity, F, H, W, 3], being decoded. charts: by row, what draws its map, or None."""

    frames: Future[np.ndarray]
    charts: Sequence[Callable[[], Chart | None] | None]


@dataclass(frozen=True)
class Charted:
    """The map at frame `number`, made at the time `at`; None: there is none."""

    number: int
    chart: Chart | None
    at: float


@dataclass(frozen=True)
class Piece:
    """One frame of one row in a group: number `place` of `pictures`, its action, and the newest input it answers.

    read: when the keys of the group were read. compiled: whether its calls were compiled.
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
    """A group made before it was due: the state it began from, its actions, its rows, and its pictures."""

    snapshot: Any
    actions: np.ndarray
    rows: frozenset[int]
    steps: int
    pictures: Pictures

    def fits(self, actions: np.ndarray, rows: frozenset[int]) -> bool:
        """Whether it is the group of these rows under these actions."""
        return self.rows == rows and np.array_equal(self.actions, actions)
