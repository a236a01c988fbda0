"""The trace of a State: what was run and which choices were made at run time, in order.

Replaying it gives equal codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vidar.core.step import Step


class Evicted(NamedTuple):
    """Sites of a ring were evicted."""

    ring: str
    row: int
    sites: tuple[int, ...]


class Discarded(NamedTuple):
    """Units of a row were discarded."""

    row: int
    units: tuple[int, ...]


class Advanced(NamedTuple):
    """The clock of a row was advanced without a Step."""

    row: int
    units: int


class Attempt(NamedTuple):
    """From here on the row draws new random numbers, see `vidar.rng.Rng.attempt`."""

    row: int
    number: int


class Replaced(NamedTuple):
    """Rows were overwritten by rows of another state, whose trace is attached."""

    rows: tuple[int, ...]
    trace: tuple[Any, ...]


class Stacked(NamedTuple):
    """Rows of several states were concatenated; each has its own trace."""

    traces: tuple[tuple[Any, ...], ...]


class Verbs(Protocol):
    """What a replay does to a State besides running Steps."""

    def evict(self, ring: str, row: int, sites: Tensor) -> None:
        """Evict sites of a ring."""
        ...

    def discard(self, row: int, units: Iterable[int]) -> None:
        """Discard units of a row."""
        ...

    def advance(self, row: int, count: int) -> None:
        """Advance the clock of a row."""
        ...

    def attempt(self, row: int, number: int) -> None:
        """Draw new random numbers from here on."""
        ...


def replay(trace: Iterable[Any], state: Verbs) -> Iterator[Step]:
    """A trace as a schedule: yields its Steps and repeats what was done between them.

    Raises ValueError if rows came from another state: replay that state first, then join it in the same way.
    """
    for entry in trace:
        match entry:
            case Step():
                yield entry
            case Evicted(ring, row, sites):
                state.evict(ring, row, torch.tensor(sites))
            case Discarded(row, units):
                state.discard(row, units)
            case Advanced(row, count):
                state.advance(row, count)
            case Attempt(row, number):
                state.attempt(row, number)
            case _:
                raise ValueError(f"rows of another state joined here ({type(entry).__name__}): replay its trace first")
