"""Hints: what a unit in flight is given, beside attention, of the codes before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidar.config import Config
from vidar.core.relation import Rule, never

Committed = Callable[[int], Tensor]  # unit -> its code as later units see it, [n, C]


def previous(q: Tensor, k: Tensor) -> Tensor:
    """The unit before."""
    return k == q - 1


class NoHintConfig(Config):
    """Attention alone."""

    def build(self, channels: int) -> NoHint:
        """The hint."""
        return NoHint()


class NoHint:
    """No columns, no content edge."""

    width = 0
    needs: Rule = staticmethod(never)

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, 0]."""
        return like[:, :0]


class PreviousHintConfig(Config):
    """The code of the unit before as further channels, site by site (DIAMOND stacks past frames as channels).

    Units must have equally many sites. Choice: one unit back, in the state in which it is committed.
    """

    def build(self, channels: int) -> PreviousHint:
        """The hint."""
        return PreviousHint(channels)


class PreviousHint:
    """C columns; the input of a unit needs the code of the one before. Zero for the first unit."""

    needs: Rule = staticmethod(previous)

    def __init__(self, channels: int):
        self.width = channels

    def __call__(self, unit: int, committed: Committed, like: Tensor) -> Tensor:
        """[n, C]."""
        return committed(unit - 1) if unit > 0 else torch.zeros_like(like)


class PreviousFrameHintConfig(Config):
    """Next-scale prediction: what the frame before adds up to, averaged to the size of each scale, as further channels.

    Choice: at every scale (the reference proposes it for the first one); zero where the frame mask hides that frame.
    """
