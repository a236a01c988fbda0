"""What a rollout remembers of each row's video beyond its window: shown to the network before a frame is generated.

The state of a row is an immutable record in `RowState.extras`, so that snapshots and guesses cover it. The picture of a
frame is added when the next frame begins, because only then its codes must have been decoded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from vidar.config import Config
from vidar.core.state import RowState
from vidar.rollout.codec import Codec, Decoding

EXTRA = "memory"  # the key in RowState.extras


class MemoryConfig(Config):
    """Base of the configs of memories."""

    @abstractmethod
    def values(self, channels: int, patch: int) -> int:
        """W, the values that are shown of a site: of codes with `channels` values for each of patch x patch cells."""

    @abstractmethod
    def build(self) -> Any:
        """A `Memory` with fresh weights."""


class Chart(NamedTuple):
    """What is remembered of a level, seen from above, in whole map units; angles in degrees, counter-clockwise.

    pose: (x, y, angle) of the player. views: those of the pictures that are kept, nearest to the player first. walls:
    the corners with least x and y of squares of side `cell` in which there is a wall.
    """

    pose: tuple[int, int, int]
    views: tuple[tuple[int, int, int], ...]
    walls: tuple[tuple[int, int], ...]
    cell: int


@runtime_checkable
class Charting(Protocol):
    """A memory that can draw a map of what it knows."""

    def chart(self, state: Any) -> Chart | None:
        """The map of a state; None: there is nothing to be drawn. Any thread may call it."""
        ...


class Memory(Protocol):
    """Pictures are uint8 [H, W, 3], actions float [A]. A state is never changed in place."""

    def start(self, pictures: Tensor, actions: Tensor | None) -> Any:
        """The state after a context: pictures [T, H, W, 3], actions [T, A]; row t acts between frames t-1 and t."""
        ...

    def ahead(self, state: Any, action: Tensor) -> Any:
        """The state before the frame that follows under an action."""
        ...

    def show(self, states: Sequence[Any], codec: Codec) -> Tensor:
        """What is remembered of the frames that these states are before: float [B, n, W]."""
        ...

    def keep(self, state: Any, picture: Tensor) -> Any:
        """The state after the frame was generated."""
        ...

    def packed(self, state: Any) -> dict[str, Tensor]:
        """A state after `keep` as tensors by name, to store it or to send it elsewhere."""
        ...

    def unpacked(self, packed: Mapping[str, Tensor]) -> Any:
        """The inverse of `packed`."""
        ...


@dataclass(frozen=True)
class Kept:
    """The memory of a row: its state, and the newest frame as a promise if it is not part of the state yet."""

    state: Any
    decoding: Decoding | None = None
    row: int = 0


class Recall:
    """The memory of all rows of a rollout. newest: the decoding of the latest frames."""

    def __init__(self, memory: Memory, codec: Codec) -> None:
        self.memory, self.codec = memory, codec
        self.newest: Decoding | None = None

    def open(self, rows: Sequence[RowState], pictures: Tensor, actions: Tensor | None) -> None:
        """Start rows after a context: pictures uint8 [b, T, H, W, 3], actions [b, T, A] or None."""
        for number, row in enumerate(rows):
            state = self.memory.start(pictures[number], None if actions is None else actions[number])
            row.extras[EXTRA] = Kept(state)

    def packed(self, row: RowState) -> dict[str, Tensor]:
        """The memory of a row, and what its last units were shown, as tensors by name; empty for a row without one."""
        if EXTRA not in row.extras:
            return {}
        shown = {"shown": torch.stack([*row.shown.values()]), "units": torch.tensor([*row.shown])} if row.shown else {}
        return {**self.memory.packed(self._state(row)), **shown, "clock": torch.tensor(row.clock)}

    def unpacked(self, row: RowState, packed: Mapping[str, Tensor]) -> None:
        """Give a row what `packed` returned for another one, so that `Turns.reopen` goes on with it."""
        given = dict(packed)
        row.clock = int(given.pop("clock"))
        units = given.pop("units").tolist() if "units" in given else []
        row.shown = dict(zip(units, given.pop("shown"))) if units else {}
        row.extras[EXTRA] = Kept(self.memory.unpacked(given))

    def _state(self, row: RowState) -> Any:
        """The state of a row with its newest frame."""
        kept: Kept = row.extras[EXTRA]
        if kept.decoding is None:
            return kept.state
        return self.memory.keep(kept.state, kept.decoding.frames()[kept.row, -1])

    def show(self, rows: Sequence[RowState], actions: Tensor, units: Sequence[int]) -> None:
        """Show each row what is remembered of its next frame, a unit, whose action is one of [B, A]."""
        known = [number for number, row in enumerate(rows) if EXTRA in row.extras]
        for number in known:
            row = rows[number]
            row.extras[EXTRA] = Kept(self.memory.ahead(self._state(row), actions[number]))
        if not known:
            return
        shown = self.memory.show([rows[number].extras[EXTRA].state for number in known], self.codec).float()
        for number, one in zip(known, shown, strict=True):
            rows[number].shown[units[number]] = one

    @property
    def draws(self) -> bool:
        """Whether the memory draws maps."""
        return isinstance(self.memory, Charting)

    def charts(self, rows: Sequence[RowState]) -> list[Callable[[], Chart | None] | None]:
        """What draws the map of each row at its newest frame, also later; None for a row or memory without a map."""
        memory = self.memory
        if not isinstance(memory, Charting):
            return [None] * len(rows)
        return [partial(memory.chart, row.extras[EXTRA].state) if EXTRA in row.extras else None for row in rows]

    def note(self, rows: Sequence[RowState], decoding: Decoding) -> None:
        """The frames that were generated after `show`."""
        self.newest = decoding
        for number, row in enumerate(rows):
            if EXTRA in row.extras:
                row.extras[EXTRA] = replace(row.extras[EXTRA], decoding=decoding, row=number)
