"""The trace of a State: what was run and what was chosen at run time, in order. Replaying it gives the same codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vidar.core.step import Step


class Evicted(NamedTuple):
    """Sites of a ring were forgotten."""

    ring: str
    row: int
    sites: tuple[int, ...]


class Discarded(NamedTuple):
    """Units of a row were taken back."""

    row: int
    units: tuple[int, ...]


class Advanced(NamedTuple):
    """The clock of a row was moved on by itself."""

    row: int
    units: int


class Attempt(NamedTuple):
    """What a row draws from here on is drawn anew, see `vidar.rng.Rng.attempt`."""

    row: int
    number: int


class Replaced(NamedTuple):
    """Rows were written over by those of another state, whose own trace this is."""

    rows: tuple[int, ...]
    trace: tuple[Any, ...]


class Stacked(NamedTuple):
    """Rows of several states were put side by side; each has its own trace."""

    traces: tuple[tuple[Any, ...], ...]


class Verbs(Protocol):
    """What a replay does to a State beside running Steps."""

    def evict(self, ring: str, row: int, sites: Tensor) -> None:
        """Forget sites of a ring."""
        ...

    def discard(self, row: int, units: Iterable[int]) -> None:
        """Take units of a row back."""
        ...

    def advance(self, row: int, count: int) -> None:
        """Move the clock of a row."""
        ...

    def attempt(self, row: int, number: int) -> None:
        """Draw anew from here on."""
        ...


def replay(trace: Iterable[Any], state: Verbs) -> Iterator[Step]:
    """A trace as a schedule: its Steps are yielded, what was done between them is done again.

    Raises ValueError where rows came from another state: replay that state first, and join it as it was joined.
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
