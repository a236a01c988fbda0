"""Combine several conditioners: each reads the condition with its own name, and their ports are summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import model_validator
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.conditioning.config import ConditionerConfig, Told
from vidar.core.layout import Layout
from vidar.types import Cond, Conditioner, VidarError


class ComposeConditionerConfig(ConditionerConfig):
    """parts: conditioners by name; each reads the condition with its name."""

    parts: dict[str, ConditionerConfig]

    @model_validator(mode="after")
    def _check(self) -> ComposeConditionerConfig:
        if not self.parts:
            raise ValueError("no conditioners to compose; name at least one")
        if taken := [name for name in self.parts if hasattr(nn.ModuleDict, name) or "." in name]:
            raise ValueError(f"no conditioner can be called {taken[0]!r}; give it another name")
        names = [name for part in self.parts.values() for name in part.takes]
        if len(set(names)) < len(names):
            raise ValueError(f"two conditioners read the same: {', '.join(sorted(names))}")
        return self

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the conditions that the parts take."""
        return tuple(name for part in self.parts.values() for name in part.takes)

    def described(self) -> list[str]:
        """See `ConditionerConfig`."""
        return [words for part in self.parts.values() for words in part.described()]

    @property
    def reads_words(self) -> bool:
        """See `ConditionerConfig`."""
        return all(part.reads_words for part in self.parts.values())

    def labels(self) -> int:
        """See `ConditionerConfig`."""
        return sum(part.labels() for part in self.parts.values())

    def looks_back(self) -> int:
        """See `ConditionerConfig`."""
        return max(part.looks_back() for part in self.parts.values())

    def action_spec(self) -> ActionSpec | None:
        """See `ConditionerConfig`."""
        return next((spec for part in self.parts.values() if (spec := part.action_spec()) is not None), None)

    def check(self, told: Told, name: str) -> None:
        """See `ConditionerConfig`."""
        super().check(told, name)
        for part in self.parts.values():
            part.check(Told(**{key: getattr(told, key) for key in told.given if key in part.takes}), name)

    def whole(self, told: Sequence[Told]) -> dict[str, Any]:
        """See `ConditionerConfig`."""
        return {name: value for part in self.parts.values() for name, value in part.whole(told).items()}

    def blank(self, batch: int, most: int) -> dict[str, Any]:
        """See `ConditionerConfig`."""
        return {name: value for part in self.parts.values() for name, value in part.blank(batch, most).items()}

    def condition(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """See `ConditionerConfig`."""
        return {name: part.condition(told) for name, part in self.parts.items()}

    def build(self) -> ComposeConditioner:
        """Conditioners with fresh weights, built in the order of their names."""
        return ComposeConditioner({name: cast(Any, part).build() for name, part in sorted(self.parts.items())})


class ComposeConditioner(nn.Module):
    """Conditioners by name. The conditions are a mapping with exactly these names."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))

    def forward(self, conditions: Mapping[str, Any], layout: Layout) -> Cond:
        """Sums of the modulation and add ports, and the only memory port.

        Raises VidarError for a missing or unknown name, or if two conditioners fill the memory port.
        """
        if set(conditions) != set(self.parts):
            odd = sorted(set(conditions) ^ set(self.parts))[0]
            raise VidarError(
                f"condition {odd!r} is missing or unknown; this model needs exactly: {', '.join(self.parts)}"
            )
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
