"""What mixers with a state of fixed size (recurrent and linear mixers) carry from call to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Key = tuple[str, int]  # (name, layer)


@dataclass(frozen=True)
class Carries:
    """Tensors [B, ..] by (name, layer), which are replaced and never modified, so that a copy is a reference.

    A row without a value has zeros if another row has one.
    """

    values: Mapping[Key, Tensor] = field(default_factory=dict[Key, Tensor])

    def get(self, name: str, layer: int) -> Tensor | None:
        """The value, or None if no row has one."""
        return self.values.get((name, layer))

    def put(self, name: str, layer: int, value: Tensor) -> Carries:
        """A copy with another value."""
        return Carries({**self.values, (name, layer): value})

    def picked(self, rows: Sequence[int]) -> Carries:
        """A copy with some of the rows."""
        return Carries({key: value[list(rows)] for key, value in self.values.items()})

    def back(self, then: Carries, rows: Sequence[int]) -> Carries:
        """A copy in which some rows are as they were in `then`."""
        return self.replaced(rows, then.picked(rows), None)

    def replaced(self, rows: Sequence[int], source: Carries, batch: int | None) -> Carries:
        """A copy in which `rows` come from `source`, in its order.

        batch: total number of rows, if none has a value yet.
        """
        made: dict[Key, Tensor] = {}
        for key in self.values.keys() | source.values.keys():
            mine, theirs = self.values.get(key), source.values.get(key)
            if mine is None:
                assert theirs is not None and batch is not None
                mine = theirs.new_zeros(batch, *theirs.shape[1:])
            mine = mine.clone()
            mine[list(rows)] = 0 if theirs is None else theirs
            made[key] = mine
        return Carries(made)

    @staticmethod
    def stacked(parts: Sequence[tuple[Carries, int]]) -> Carries:
        """Concatenate the rows of several, each given with its number of rows."""
        keys = {key: value for part, _ in parts for key, value in part.values.items()}
        return Carries(
            {
                key: torch.cat([part.values.get(key, like.new_zeros(rows, *like.shape[1:])) for part, rows in parts])
                for key, like in keys.items()
            }
        )
