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
    """The order in which the frames of a model are generated, and what sees what.

    codes: what its units hold: "latents", or "scales" of a pyramid tokenizer.
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
        """How planned segments lie in a video, a `vidar.orders.plan.Chain`; None: nothing is planned."""
        return None

    @property
    def together(self) -> int | None:
        """Units that are always in flight together, as a chunk; None: as the schedule says."""
        return None

    @property
    def in_parts(self) -> bool:
        """Whether a frame is made part by part, one after another."""
        return False

    def flying(self, depth: int, both_ways: bool) -> Self:
        """The same order where `depth` units in flight read each other, the later ones too where `both_ways`."""
        return self

    def check_scales(self, sides: Sequence[Side]) -> None:
        """Raises ValueError where these, of the tokenizer, are not those of the order."""

    def over(self, sides: Sequence[Side]) -> Self:
        """The same order over these scales of a tokenizer, where it takes them from there."""
        return self

    def sizes(self, frames: int) -> list[tuple[Size, ...]]:
        """Of every scale of every pyramid of so many latent frames; empty where its units are no pyramids."""
        return []

    @abstractmethod
    def build(self, height: int, width: int, num_frames: int | None = None) -> tuple[Order, Grid]:
        """Order and grid of latent frames of height x width sites; endless without `num_frames`.

        Raises UsageError if sizes or lengths do not fit.
        """

    def frame_map(self, grid: Grid, patch: int, objective: Objective) -> FrameMap:
        """How frames are laid out on the units of the grid; a site is patch x patch latents."""
        return EvenFrames(grid, self.unit_frames)
