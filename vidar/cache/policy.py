"""Policies of a cache: what a state forgets between calls, beside what its order forgets by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Protocol

from pydantic import Field
from torch import Tensor

from vidar.cache.ring import RingState
from vidar.config import Config
from vidar.types import NOBODY

Evicted = tuple[str, int, Tensor]  # ring, batch row, sites


class Policy(Protocol):
    """Looks at a state before every call and says which sites to forget. What it says joins the trace of the state.

    It remembers nothing itself: what it needs lies in the state, so that snapshots and rewinds cover it.
    """

    def __call__(self, state: RingState) -> Iterable[Evicted]:
        """(ring, batch row, sites) to forget now."""
        ...


def evict(policy: Policy | None, state: RingState) -> None:
    """What a policy says of a state, done."""
    if policy is not None:
        for ring, row, sites in [*policy(state)]:
            state.evict(ring, row, sites)


class PolicyConfig(Config):
    """Base of the configs of policies."""

    @abstractmethod
    def build(self) -> Policy:
        """The policy."""


class StridedPolicyConfig(PolicyConfig):
    """A long memory of few frames: the `recent` units before the one that is made, and of older ones every `every`-th.

    every: None: of older ones none, which is a shorter window. Units are those of the order.
    """

    recent: int = Field(default=4, ge=1)
    every: int | None = Field(default=4, ge=2)

    def build(self) -> StridedPolicy:
        """The policy."""
        return StridedPolicy(self.recent, self.every)


class StridedPolicy:
    """See `StridedPolicyConfig`."""

    def __init__(self, recent: int, every: int | None) -> None:
        self.recent, self.every = recent, every

    def __call__(self, state: RingState) -> Iterable[Evicted]:
        """See `Policy`."""
        for name, ring in state.rings.items():
            for row, told in enumerate(state.rows):
                unit = ring.slots.unit[row]
                old = (ring.slots.cell[row] != NOBODY) & (unit < told.clock - self.recent)
                if self.every is not None:
                    old &= unit % self.every != 0
                if bool(old.any()):
                    yield name, row, ring.slots.site[row][old]
