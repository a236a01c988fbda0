"""How an order is written out by hand: a line for each reading cell, a column for each cell, x where it is read.

Nothing in these tables calls what they describe: numbers are literal, or plain loops over integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mixer:
    """One relation: who reads whom in flight, who when committed (None: the same), and what its ring is.

    kept: capacity in an endless stream, where it is another one than in a clip.
    """

    sees: str
    memory: str | None = None
    joint: bool = False
    fold: tuple[str, ...] = ()
    capacity: int | None = None
    sinks: int = 0
    kept: int | None = None


@dataclass(frozen=True)
class Table:
    """An order by hand.

    make, given  the constructor and what it is called with, `num_frames` apart
    frames       as num_frames; 0: the constructor has no such argument
    unit         of each cell;  cell: of each site;  sites: of each unit;  coord: of each site, on `axes`
    needs        content edges: a line for each unit; "" for none
    waves        units that run together
    period       cells after which the rules repeat;  endless: whether they do, and there is a stream without an end
    """

    name: str
    make: Callable[..., Any]
    given: dict[str, Any]
    mixers: dict[str, Mixer]
    unit: list[int]
    cell: list[int]
    sites: list[list[int]]
    axes: tuple[str, ...]
    coord: list[tuple[float, ...]]
    waves: list[list[int]]
    frames: int = 0
    needs: str = ""
    reach: int = 0
    warmup: int = 0
    unit_cells: int = 1
    period: int = 1
    endless: bool = True


def runs(size: int, count: int) -> list[list[int]]:
    """0 .. size - 1, size .. 2 size - 1, and so on."""
    return [list(range(n * size, (n + 1) * size)) for n in range(count)]


def raster(frames: int, height: int, width: int) -> list[tuple[float, ...]]:
    return [(t, y, x) for t in range(frames) for y in range(height) for x in range(width)]


def one_by_one(count: int) -> list[list[int]]:
    return [[unit] for unit in range(count)]


TYX, STYX = ("t", "y", "x"), ("s", "t", "y", "x")
