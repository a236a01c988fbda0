"""The real game beside a dream: it begins at the same place and takes the same actions, frame for frame."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vidar.actions import ActionSpec
from vidar.play.engine import Log, PlayerSlot, Start
from vidar.types import VidarError


class Game(Protocol):
    """What `Beside` needs of a game; see `RealGame`."""

    spec: ActionSpec

    def begin(self, seed: int) -> np.ndarray:
        """Begin a game and return its first frame, uint8 [H, W, 3]."""
        ...

    def act(self, row: np.ndarray) -> np.ndarray | None:
        """The next frame; None if the game is over."""
        ...

    def close(self) -> None:
        """Stop the game."""
        ...


@dataclass(frozen=True)
class Picture:
    """A frame of the game, None if the game is over, and the number of the dream's frame beside it."""

    number: int
    frame: np.ndarray | None


class Beside:
    """One game for one slot at a time. Choice: the slot of row 0 has it, the others play without.

    The game takes the actions from the slot's log, so it misses none, however late it is. `begin` and `follow` are
    called from one thread; all calls of the game are made by another one, in the same order.
    """

    def __init__(self, game: Game, context: int) -> None:
        self.game, self.context = game, context
        self.shown: Picture | None = None
        self.wake = threading.Condition()
        self.worker = ThreadPoolExecutor(1, "vidar-beside")
        self._followed: tuple[PlayerSlot, threading.Event] | None = None

    def begin(self, seed: int) -> Future[Start]:
        """Begin the game of a seed and press nothing for `context` frames: the start of a dream at the same place.

        The result raises VidarError if the game has stopped, or ends within the context.
        """
        self.leave()
        return self.worker.submit(self._begin, seed)

    def follow(self, slot: PlayerSlot) -> None:
        """From the last frame of `begin` on, play every action of the slot's present dream."""
        self.leave()
        left = threading.Event()
        self._followed = (slot, left)
        self.worker.submit(self._follow, slot, slot.log, left)

    def leave(self) -> None:
        """Stop following the slot."""
        if self._followed is not None:
            slot, left = self._followed
            self._followed = None
            with slot.engine.wake:
                left.set()
                slot.engine.wake.notify_all()

    def newest(self, after: Picture | None, timeout: float) -> Picture | None:
        """The newest picture; if that is still `after`, the next one. None after `timeout` seconds."""
        with self.wake:
            ready = self.wake.wait_for(lambda: self.shown is not None and self.shown is not after, timeout)
            return self.shown if ready else None

    def close(self) -> None:
        """Stop the game."""
        self.leave()
        self.worker.shutdown(cancel_futures=True)
        self.game.close()

    def _begin(self, seed: int) -> Start:
        rest = self.game.spec.noop()
        frames = [self.game.begin(seed)]
        while len(frames) < self.context:
            frame = self.game.act(rest)
            if frame is None:
                raise VidarError(f"the game of seed {seed} ends within its first {self.context} frames")
            frames.append(frame)
        self._show(Picture(0, frames[-1]))
        return Start(np.stack(frames), np.tile(rest, (self.context, 1)), seed)

    def _follow(self, slot: PlayerSlot, log: Log, left: threading.Event) -> None:
        wake, done = slot.engine.wake, 0
        while not left.is_set():
            with wake:
                wake.wait_for(lambda done=done: left.is_set() or len(log.rows) > done)
                row = None if left.is_set() else log.rows[done]
            if row is None:
                return
            try:
                frame = self.game.act(row)
            except VidarError:
                frame = None
            done += 1
            self._show(Picture(done, frame))
            if frame is None:
                return

    def _show(self, picture: Picture) -> None:
        with self.wake:
            self.shown = picture
            self.wake.notify_all()
