"""ViZDoom, played one action at a time, with the pictures of the recorder and without a time limit."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from vidar.data.vizdoom import VizdoomGame
from vidar.types import VidarError


class RealGame:
    """A running game. Frames are uint8 [H, W, 3], as `VizdoomGame.episode` makes them.

    Every call raises VidarError if the engine has stopped.
    """

    def __init__(self, running: VizdoomGame) -> None:
        self.running, self.spec = running, running.spec

    def begin(self, seed: int) -> np.ndarray:
        """The first frame of the game of a seed."""
        engine = self.running.game
        try:
            engine.set_seed(seed % 2**32)
            engine.new_episode()
            engine.set_episode_timeout(0)
            return self._picture(engine.get_state())
        except Exception as error:
            raise _stopped(error) from None

    def act(self, row: np.ndarray) -> np.ndarray | None:
        """The next frame after an action row float32 [A]; None if the game is over."""
        engine = self.running.game
        try:
            engine.make_action([float(value) for value in row], self.running.config.frame_skip)
            state = engine.get_state()
            over = state is None  # pyright: ignore[reportUnnecessaryComparison]  # the stub leaves it out
            return None if over else self._picture(state)
        except Exception as error:
            raise _stopped(error) from None

    def close(self) -> None:
        """Stop the engine."""
        self.running.close()

    def _picture(self, state: Any) -> np.ndarray:
        size = (self.running.config.width, self.running.config.height)
        screen = Image.fromarray(state.screen_buffer)
        return np.asarray(screen.resize(size, Image.Resampling.BOX, box=self.running.box))


def _stopped(error: Exception) -> VidarError:
    """The binding's errors have types of their own and texts of several lines; keep the first line."""
    return VidarError(f"the real game has stopped: {(str(error) or type(error).__name__).splitlines()[0]}")
