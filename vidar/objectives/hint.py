"""Hints: codes of earlier units as input channels of a unit in flight, in addition to attention."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.core.relation import Rule, never

Committed = Callable[[int], Tensor]  # unit -> its code as later units see it, [n, C]


def back(units: int) -> Rule:
    """A content edge to the unit `units` before."""

    def rule(q: Tensor, k: Tensor) -> Tensor:
        return k == q - units

    return rule


previous = back(1)


class Hint(Protocol):
    """What a unit receives of earlier units besides attention, as further input channels."""

    @property
    def width(self) -> int:
        """Number of further channels."""
        ...

    def needs(self, u: Tensor, v: Tensor, /) -> Tensor:
        """Content edges, bool: unit u is begun from the code of unit v."""
        ...

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """The channels [n, width] of a unit with n sites. like: a tensor [n, C] of its dtype and device."""
        ...


class HintConfig(Config):
    """Base class of the configs of hints for denoised units."""

    @abstractmethod
    def build(self, channels: int) -> Hint:
        """The hint, for codes with this number of channels."""


class ScaleHintConfig(Config):
    """Base class of the configs of hints for predicted scales. hinted: whether a scale receives the previous frame."""

    hinted: ClassVar[bool] = True


class NoHintConfig(HintConfig, ScaleHintConfig):
    """No hint: attention only."""

    hinted: ClassVar[bool] = False

    def build(self, channels: int) -> NoHint:
        """The hint."""
        return NoHint()


class NoHint:
    """No columns and no content edge."""

    width = 0

    def needs(self, u: Tensor, v: Tensor) -> Tensor:
        """No content edge."""
        return never(u, v)

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, 0]."""
        return like[:, :0]


class PreviousHintConfig(HintConfig):
    """The code of an earlier unit as further input channels, site by site (DIAMOND stacks past frames as channels).

    back: distance in units; if the units of a frame are its cells, their number, which gives the cell at the same
    place. Both units must have equally many sites. Choice: one frame back, in its committed form.
    """

    back: int = Field(default=1, ge=1)

    def build(self, channels: int) -> PreviousHint:
        """The hint."""
        return PreviousHint(channels, self.back)


class PreviousHint:
    """C columns; the input of a unit needs the code of the earlier unit. Zero for the first units."""

    def __init__(self, channels: int, units: int = 1):
        self.width, self.units = channels, units
        self.needs: Rule = back(units)

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, C]."""
        return committed(unit - self.units) if unit >= self.units else torch.zeros_like(like)


class LastFrameHintConfig(HintConfig):
    """Blocks: the last frame of the previous block as further input channels, the same for every frame of a block.

    frames: frames per block. Predicting from it means predicting the change since the last known frame.
    """

    frames: int = Field(ge=1)

    def build(self, channels: int) -> LastFrameHint:
        """The hint."""
        return LastFrameHint(channels, self.frames)


class LastFrameHint:
    """C columns; the input of a block needs the code of the previous block. Zero for the first block."""

    def __init__(self, channels: int, frames: int):
        self.width, self.frames = channels, frames

    def needs(self, u: Tensor, v: Tensor) -> Tensor:
        """The previous block."""
        return previous(u, v)

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, C] for the n sites of a block, frame by frame."""
        if unit == 0:
            return torch.zeros_like(like)
        before = committed(unit - 1)
        return before[-(len(before) // self.frames) :].repeat(self.frames, 1)


class PreviousFrameHintConfig(ScaleHintConfig):
    """Next-scale prediction: the previous frame, averaged to the size of each scale, as further input channels.

    Choice: at every scale (VideoAR proposes it for the first one); zero where the frame mask hides that frame.
    """
