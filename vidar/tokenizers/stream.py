"""The state of one stream: what every causal layer remembers, and whether the stream has begun.

A state is a plain tree {"first": bool, "past": {layer name: tensor}}. Layers never write into a state that was handed
in, so a copied reference is already a fork; `copy.deepcopy` and safetensors work too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidar.types import Tree, UsageError

FIRST = "first"
PAST = "past."


class Stream:
    """One call on a stream: hands every layer its past and collects what the next call needs."""

    def __init__(self, state: Tree | None) -> None:
        self.first: bool = True if state is None else bool(state["first"])
        self._past: Mapping[str, Tensor] = {} if state is None else state["past"]
        self._kept: dict[str, Tensor] = {}

    def extend(self, name: str, x: Tensor, count: int) -> Tensor:
        """Put the last `count` frames that layer `name` saw before x [B, T, H, W, C]; its first frame if none.

        Raises UsageError where the state belongs to another stream (other layers, batch or size).
        """
        past = x[:, :1].expand(-1, count, -1, -1, -1) if self.first else self._past.get(name)
        if past is None:
            raise UsageError(f"tokenizer state has no entry {name!r}; encode and decode streams have separate states")
        if past.shape[0] != x.shape[0] or past.shape[2:] != x.shape[2:]:
            want, got = [past.shape[0], *past.shape[2:]], [x.shape[0], *x.shape[2:]]
            raise UsageError(f"tokenizer state was made for batch, height, width, channels {want}, not {got}")
        joined = torch.cat([past.to(x.dtype), x], dim=1)
        self._kept[name] = joined[:, -count:].clone()  # a copy: a view would keep the whole chunk alive
        return joined

    def state(self) -> Tree:
        """What goes into the next call."""
        return {"first": False, "past": self._kept}


def flatten_state(state: Tree) -> dict[str, Tensor]:
    """A state as named tensors that safetensors can store."""
    past: Mapping[str, Any] = state["past"]
    flat = {PAST + name: value.contiguous() for name, value in past.items()}
    return {FIRST: torch.tensor(bool(state["first"])), **flat}


def unflatten_state(tensors: Mapping[str, Tensor]) -> Tree:
    """Inverse of `flatten_state`. Raises UsageError for tensors that are not a stored state."""
    if FIRST not in tensors:
        raise UsageError("not a stored tokenizer state: there is no entry 'first'")
    past = {name.removeprefix(PAST): value for name, value in tensors.items() if name.startswith(PAST)}
    return {"first": bool(tensors[FIRST]), "past": past}
