"""Communication between the processes of a run, so that all of them take the same branches in every step.

A collective call waits for every process. Every decision about the number of forward passes of a step, their layout, or
whether there is another step must therefore be the same on all ranks: either by itself (seed, step number), or agreed
on through `Ranks`.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks(Protocol):
    """rank: number of this process, from 0. world_size: number of processes."""

    rank: int
    world_size: int

    def agree(self, value: float) -> float:
        """The value of rank 0."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all ranks; its shape is the same on all."""
        ...


class Alone:
    """The Ranks of a single process."""

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
    """Whether this process is rank 0, or the only one; usable before there is an engine."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def anywhere(ranks: Ranks, here: bool) -> bool:
    """Whether `here` is true on any rank."""
    return here if ranks.world_size == 1 else float(ranks.mean(torch.tensor(float(here)))) > 0
