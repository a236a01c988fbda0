"""The processes of a run: what they say to each other, so that all of them take the same way through every step.

A collective call waits for every process. So whatever decides how many forwards a step makes, on what layout, or
whether there is another step, is the same everywhere by itself (the seed, the number of the step), or asked here.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks(Protocol):
    """rank: of this process, from 0. world_size: how many there are."""

    rank: int
    world_size: int

    def agree(self, value: float) -> float:
        """The value of rank 0."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all ranks of a tensor of one shape."""
        ...


class Alone:
    """One process: nobody to wait for."""

    rank = 0
    world_size = 1

    def agree(self, value: float) -> float:
        """The value itself."""
        return value

    def mean(self, value: Tensor) -> Tensor:
        """The tensor itself."""
        return value


ALONE = Alone()


def is_first() -> bool:
    """Whether this process is rank 0, or alone; before an engine says so."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def anywhere(ranks: Ranks, here: bool) -> bool:
    """Whether something is so on any rank."""
    return here if ranks.world_size == 1 else float(ranks.mean(torch.tensor(float(here)))) > 0
