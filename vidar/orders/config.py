"""Base of the configs of orders of frames."""

from __future__ import annotations

from abc import abstractmethod

from vidar.config import Config
from vidar.core.frames import EvenFrames, FrameMap
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order


class OrderConfig(Config):
    """In which order the frames of a model are made, and who sees whom."""

    @property
    def unit_frames(self) -> int:
        """Frames that are made from one start."""
        return 1

    @abstractmethod
    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`.

        Raises UsageError where sizes or lengths do not fit.
        """

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> FrameMap:
        """How frames lie on the units of the grid; a site is patch x patch latents."""
        return EvenFrames(grid, self.unit_frames)
