"""Several conditioners, one Cond: each reads the condition of its own name, and the ports are summed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import model_validator
from torch import Tensor, nn

from vidar.config import Config
from vidar.core.layout import Layout
from vidar.types import Cond, Conditioner, VidarError


class ComposeConditionerConfig(Config):
    """Conditioners by the name of the condition that they read."""

    parts: dict[str, Config]

    @model_validator(mode="after")
    def _check(self) -> ComposeConditionerConfig:
        if not self.parts:
            raise ValueError("nothing to compose; name at least one conditioner")
        return self

    def build(self) -> ComposeConditioner:
        """Conditioners with fresh weights, built in the order of their names."""
        return ComposeConditioner({name: cast(Any, part).build() for name, part in sorted(self.parts.items())})


class ComposeConditioner(nn.Module):
    """Conditions are a mapping by name; every name must be there, and no other."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))

    def forward(self, conditions: Mapping[str, Any], layout: Layout) -> Cond:
        """Modulation and add are sums. Raises VidarError for a missing or unknown name, or two memories."""
        if set(conditions) != set(self.parts):
            odd = sorted(set(conditions) ^ set(self.parts))[0]
            raise VidarError(f"condition {odd!r} does not fit; this model takes exactly: {', '.join(self.parts)}")
        made = [cast(Conditioner, part)(conditions[name], layout) for name, part in self.parts.items()]
        memories = [one for one in made if one.memory is not None]
        if len(memories) > 1:
            raise VidarError("two conditioners fill the memory port; one of them must use another port")
        memory = memories[0] if memories else Cond()
        modulation, add = _sum(one.modulation for one in made), _sum(one.add for one in made)
        return Cond(modulation, add, memory.memory, memory.memory_mask)


def _sum(parts: Any) -> Tensor | None:
    total: Tensor | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total
