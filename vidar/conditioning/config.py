"""Base of the configs of conditioners, and what a model is told of a whole video."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.types import UsageError

Features = tuple[Tensor, Tensor]  # of one prompt, by an outside encoder: float [J, W] and mask bool [J]


@dataclass(frozen=True)
class Told:
    """What a model is told of one video: a prompt (words, or features of an outside encoder), a label; None: nothing.

    Raises UsageError in `ConditionerConfig.check` where the model takes no such thing.
    """

    prompt: str | Features | None = None
    label: int | None = None

    @property
    def given(self) -> list[str]:
        """The names of what is told."""
        return [name for name in ("prompt", "label") if getattr(self, name) is not None]


NOTHING = Told()


class ConditionerConfig(Config):
    """What a network is told, beside its inputs.

    accepts: names of it, of "actions" (by frame), "prompt", "label" (of a whole video).
    """

    accepts: ClassVar[tuple[str, ...]] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """`accepts` of all that it consists of."""
        return self.accepts

    def described(self) -> list[str]:
        """What it takes, in words."""
        return [name if name == "actions" else f"a {name}" for name in self.accepts]

    @property
    def reads_words(self) -> bool:
        """Whether a prompt may be words; otherwise features of an outside encoder, or it takes none."""
        return True

    def labels(self) -> int:
        """How many labels it knows."""
        return 0

    def looks_back(self) -> int:
        """Earlier actions that are seen beside the one of a frame."""
        return 0

    def action_spec(self) -> ActionSpec | None:
        """Of the actions that it reads."""
        return None

    @abstractmethod
    def build(self) -> nn.Module:
        """A conditioner with fresh weights."""

    def check(self, told: Told, name: str) -> None:
        """Raises UsageError where this is not what model `name` takes."""
        for given in told.given:
            if given not in self.takes:
                raise UsageError(f"model {name!r} takes {' and '.join(self.described()) or 'nothing'}, and no {given}")

    def whole(self, told: Sequence[Told]) -> dict[str, Any]:
        """What is told of whole videos, one each, by name: what `condition` is given beside actions."""
        return {}

    def record(self, values: Tensor, mask: Tensor, hidden: Tensor) -> Any:
        """What a batch of training holds -> what the conditioner reads. values: labels long [B], or prompts with their
        mask [B, J]; hidden bool [B].
        """
        raise UsageError(f"{type(self).__name__} reads no labels and no prompts")

    def blank(self, batch: int, most: int) -> dict[str, Any]:
        """As `whole`, without storage: of prompts as long as they may be, `most` bytes at most."""
        return {}

    def condition(self, told: Mapping[str, Any]) -> Any:
        """What the conditioner reads, of what is told by name."""
        return told[self.accepts[0]]


class ActionConditionerConfig(ConditionerConfig):
    """Reads `vidar.conditioning.action.Actions`."""

    accepts: ClassVar[tuple[str, ...]] = ("actions",)

    def looks_back(self) -> int:
        """See `ConditionerConfig`."""
        return getattr(self, "history", 0)

    def action_spec(self) -> ActionSpec | None:
        """See `ConditionerConfig`."""
        return getattr(self, "spec", None)


def untold(told: Any) -> Any:
    """The same conditions with all of them hidden: what the branch without conditions of guidance reads."""
    if isinstance(told, Mapping):
        return {name: untold(value) for name, value in cast(Mapping[str, Any], told).items()}
    return told.untold()


def moved(told: Any, device: torch.device) -> Any:
    """The same conditions on a device; None stays None."""
    if isinstance(told, Mapping):
        return {name: moved(value, device) for name, value in cast(Mapping[str, Any], told).items()}
    return None if told is None else told.to(device)


def pad(parts: Sequence[Tensor], length: int) -> Tensor:
    """Tensors [J, ..] of several lengths -> [B, length, ..], zeros behind."""
    return torch.stack([torch.cat([part, part.new_zeros(length - len(part), *part.shape[1:])]) for part in parts])
