"""Base class of the configs of frame orders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from vidar.config import Config
from vidar.core.frames import EvenFrames, FrameMap
from vidar.core.grid import Grid
from vidar.core.objective import Objective
from vidar.core.order import Order

Side = tuple[int, int]  # height, width
Size = tuple[int, int, int]  # frames, height, width


class OrderConfig(Config):
    """Base of the configs of orders: in which order frames are generated, and which parts see each other.

    codes: the content of a unit: "latents", "scales" of a pyramid tokenizer, or whole "pyramids".
    """

    codes: ClassVar[str] = "latents"

    @property
    def unit_frames(self) -> int:
        """Number of frames that are generated from one start."""
        return 1

    @property
    def past(self) -> int | None:
        """Number of past frames (or units of several frames) that are seen; None: all."""
        return getattr(self, "window", None)

    @property
    def forgets(self) -> bool:
        """Whether every frame is eventually forgotten."""
        return True

    @property
    def scales(self) -> int:
        """Number of scales of a frame that are predicted one by one."""
        return 1

    @property
    def chain(self) -> Any:
        """How planned segments follow one another in a video, a `vidar.orders.plan.Chain`; None without a plan."""
        return None

    @property
    def together(self) -> int | None:
        """Number of units that are always in flight together, as a chunk; None: the schedule decides."""
        return None

    @property
    def in_parts(self) -> bool:
        """Whether a frame is generated in several parts, one after another."""
        return False

    def flying(self, depth: int, both_ways: bool) -> Self:
        """The same order with `depth` units in flight that read each other; with `both_ways` also later ones."""
        return self

    def check_scales(self, sides: Sequence[Side]) -> None:
        """Raises ValueError if these scales of the tokenizer are not the scales of the order."""

    def over(self, sides: Sequence[Side]) -> Self:
        """The same order with the scales of a tokenizer, if the order takes its scales from the tokenizer."""
        return self

    def sizes(self, frames: int) -> list[tuple[Size, ...]]:
        """The size of every scale of every pyramid of `frames` latent frames; empty if units are not pyramids."""
        return []

    @abstractmethod
    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of latent frames of height x width sites; endless without `num_frames`.

        Raises UsageError if sizes or lengths do not fit.
        """

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> FrameMap:
        """How frames are laid out on the units of the grid; a site is patch x patch latents."""
        return EvenFrames(grid, self.unit_frames)
