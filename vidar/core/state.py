"""What decoding keeps for each batch row, and what it requires of a State."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from vidar.core.layout import Layout
from vidar.core.step import Step
from vidar.types import Slots


@dataclass
class RowState:
    """The small parts of one batch row. Tensors in it are replaced, never modified in place.

    codes      finished codes that are still needed; a code that is not in `committed` is pending
    outs       outputs of committing passes that a later `start` reads
    x          states of the units in flight
    committed  units whose keys have been written;  done: units whose code has existed
    shown      what a memory shows of units that are generated next, [n, W] each
    extras     further trees of the row: tokenizer state, retrieval memory
    attempt    see `vidar.rng.Rng.attempt`
    """

    clock: int = 0
    codes: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    outs: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    x: dict[int, Any] = field(default_factory=dict[int, Any])
    committed: set[int] = field(default_factory=set[int])
    done: set[int] = field(default_factory=set[int])
    shown: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    extras: dict[str, Any] = field(default_factory=dict[str, Any])
    attempt: int = 0

    def copy(self) -> RowState:
        """A copy that shares tensors."""
        maps = dict(self.codes), dict(self.outs), dict(self.x)
        sets = set(self.committed), set(self.done)
        return RowState(self.clock, *maps, *sets, dict(self.shown), dict(self.extras), self.attempt)

    def draft(self, unit: int, code: Tensor) -> None:
        """Add a code [n, C] on trial. It may be committed, but until it is accepted nothing before it is forgotten."""
        self.codes[unit] = code

    def accept(self, unit: int) -> None:
        """Accept a draft."""
        self.done.add(unit)

    def discard(self, units: Iterable[int]) -> None:
        """Remove units as if they had never existed. The clock does not change; the State removes the keys."""
        for unit in units:
            for known in (self.codes, self.outs, self.x):
                known.pop(unit, None)
            self.committed.discard(unit)
            self.done.discard(unit)

    def settled(self, units: Iterable[int]) -> bool:
        """Whether all these units have keys and are not drafts."""
        return all(unit in self.committed and unit in self.done for unit in units)


Content = Callable[[RowState], Tensor]  # the row -> the code of a given unit


class Given(Protocol):
    """The function that gives the code of each given unit: a dictionary, or a formula for an endless stream."""

    def __contains__(self, unit: object, /) -> bool: ...

    def __getitem__(self, unit: int, /) -> Content: ...


class DecodeState(Protocol):
    """What the decode loop requires of a State, in addition to what the model requires (`vidar.types.State`)."""

    rows: list[RowState]

    @property
    def ring_relations(self) -> Mapping[str, str]:
        """The relation of each ring that does not bear its relation's name."""
        ...

    def held(self) -> Mapping[str, Slots] | None:
        """By ring name, the slots that the ring keeps now."""
        ...

    def begin(self, layout: Layout, inputs: Tensor) -> None:
        """Called before the model: choose the places of the MEMORY slots.

        While a mark is open, save what they overwrite.

        inputs: raw slot inputs [B, S, I].
        """
        ...

    def end(self, step: Step) -> None:
        """Called after the model: the rings now hold the MEMORY slots; append the step to the trace."""
        ...
