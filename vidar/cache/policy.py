"""Cache policies: which keys a state evicts between calls, in addition to what its order forgets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Protocol

from pydantic import Field
from torch import Tensor

from vidar.cache.ring import RingState
from vidar.config import Config
from vidar.types import PAD

Evicted = tuple[str, int, Tensor]  # ring, batch row, sites


class Policy(Protocol):
    """Called before every call of the model; returns the sites to evict, which join the trace of the state.

    It keeps no memory of its own: all it needs is in the state, so that snapshots and rewinds include it.
    """

    def __call__(self, state: RingState) -> Iterable[Evicted]:
        """(ring, batch row, sites) to evict now."""
        ...


def evict(policy: Policy | None, state: RingState) -> None:
    """Evict what a policy returns for a state."""
    if policy is not None:
        for ring, row, sites in [*policy(state)]:
            state.evict(ring, row, sites)


class PolicyConfig(Config):
    """Base of the configs of policies."""

    @abstractmethod
    def build(self) -> Policy:
        """The policy."""


class StridedPolicyConfig(PolicyConfig):
    """A long memory of few frames: the `recent` last units, and every `every`-th of the older units.

    every: None keeps no older units, which is a shorter window. Units are those of the order.
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
                old = (ring.slots.cell[row] != PAD) & (unit < told.clock - self.recent)
                if self.every is not None:
                    old &= unit % self.every != 0
                if bool(old.any()):
                    yield name, row, ring.slots.site[row][old]
