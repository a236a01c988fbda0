"""Base of the configs of orders of frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from vidar.config import Config
from vidar.core.frames import EvenFrames, FrameMap
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order


class OrderConfig(Config):
    """In which order the frames of a model are made, and who sees whom.

    codes: what its units hold: "latents", or "scales" of a tokenizer of pyramids.
    """

    codes: ClassVar[str] = "latents"

    @property
    def unit_frames(self) -> int:
        """Frames that are made from one start."""
        return 1

    @property
    def past(self) -> int | None:
        """Frames, or units of several, that are seen before one's own; None: all."""
        return getattr(self, "window", None)

    @property
    def forgets(self) -> bool:
        """Whether every frame is forgotten in the end."""
        return True

    @property
    def scales(self) -> int:
        """Scales of a frame that are predicted one by one."""
        return 1

    def check_scales(self, sides: Sequence[tuple[int, int]]) -> None:
        """Raises ValueError where these, of the tokenizer, are not those of the order."""

    @abstractmethod
    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of frames of height x width sites; endless without `num_frames`.

        Raises UsageError where sizes or lengths do not fit.
        """

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> FrameMap:
        """How frames lie on the units of the grid; a site is patch x patch latents."""
        return EvenFrames(grid, self.unit_frames)
