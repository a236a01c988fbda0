"""The state of one stream: what every causal layer remembers, and whether the stream has started.

A state is a plain tree {"first": bool, "past": {layer name: tensor}}. Layers never modify a state that was passed in,
so a copied reference is already a fork; `copy.deepcopy` works too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vidar.types import Tree, UsageError


class Stream:
    """One call on a stream: gives every layer its past and collects what the next call needs."""

    def __init__(self, state: Tree | None) -> None:
        self.first: bool = True if state is None else bool(state["first"])
        self._past: Mapping[str, Tensor] = {} if state is None else state["past"]
        self._kept: dict[str, Tensor] = {}

    def extend(self, name: str, x: Tensor, count: int) -> Tensor:
        """Prepend the last `count` frames that layer `name` saw before x [B, T, H, W, C].

        At the start, repeat the first frame.

        Raises UsageError if the state belongs to another stream (other layers, batch or size).
        """
        past = x[:, :1].expand(-1, count, -1, -1, -1) if self.first else self._past.get(name)
        if past is None:
            raise UsageError(f"tokenizer state has no entry {name!r}; encode and decode streams have separate states")
        if past.shape[0] != x.shape[0] or past.shape[2:] != x.shape[2:]:
            want, got = [past.shape[0], *past.shape[2:]], [x.shape[0], *x.shape[2:]]
            raise UsageError(f"tokenizer state was made for batch, height, width, channels {want}, not {got}")
        joined = torch.cat([past.to(x.dtype), x], dim=1)
        self._kept[name] = joined[:, -count:].clone()  # a copy, because a view would keep the whole chunk in memory
        return joined

    def state(self) -> Tree:
        """The state for the next call."""
        return {"first": False, "past": self._kept}
