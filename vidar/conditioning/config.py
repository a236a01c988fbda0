"""Base of the configs of conditioners, and the record of the conditions of a whole video."""

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

Features = tuple[Tensor, Tensor]  # features of one prompt from an external encoder: float [J, W], mask bool [J]


@dataclass(frozen=True)
class Told:
    """The conditions of one whole video: a prompt (words, or features of an external encoder) and a label, or None.

    `ConditionerConfig.check` raises UsageError for a condition that the model does not take.
    """

    prompt: str | Features | None = None
    label: int | None = None

    @property
    def given(self) -> list[str]:
        """The names of the conditions that are given."""
        return [name for name in ("prompt", "label") if getattr(self, name) is not None]


NOTHING = Told()


class ConditionerConfig(Config):
    """Base of the configs of conditioners, which map conditions to the conditioning ports of the network.

    accepts: names of the conditions that it reads: "actions" (per frame), "prompt", "label" (per video).
    """

    accepts: ClassVar[tuple[str, ...]] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """`accepts` of this conditioner and of its parts."""
        return self.accepts

    def described(self) -> list[str]:
        """Descriptions of the conditions that it takes, for messages."""
        return [name if name == "actions" else f"a {name}" for name in self.accepts]

    @property
    def reads_words(self) -> bool:
        """Whether a prompt may be words; if not, it must be features of an external encoder."""
        return True

    def labels(self) -> int:
        """Number of labels that it knows."""
        return 0

    def looks_back(self) -> int:
        """Number of earlier actions that the condition of a frame includes."""
        return 0

    def action_spec(self) -> ActionSpec | None:
        """The spec of the actions that it reads, or None."""
        return None

    @abstractmethod
    def build(self) -> nn.Module:
        """A conditioner with fresh weights."""

    def check(self, told: Told, name: str) -> None:
        """Raises UsageError for conditions that model `name` does not take."""
        for given in told.given:
            if given not in self.takes:
                raise UsageError(f"model {name!r} takes {' and '.join(self.described()) or 'nothing'}, and no {given}")

    def whole(self, told: Sequence[Told]) -> dict[str, Any]:
        """Batched conditions by name for one `Told` per video: the input of `condition` besides actions."""
        return {}

    def record(self, values: Tensor, mask: Tensor, hidden: Tensor) -> Any:
        """The conditioner's record for a training batch.

        values: labels long [B], or prompts with their mask [B, J]. hidden: bool [B], rows without a condition. Raises
        UsageError if it reads neither labels nor prompts.
        """
        raise UsageError(f"{type(self).__name__} reads no labels and no prompts")

    def blank(self, batch: int, most: int) -> dict[str, Any]:
        """As `whole`, without storage: of prompts as long as they may be, `most` bytes at most."""
        return {}

    def condition(self, told: Mapping[str, Any]) -> Any:
        """The conditioner's own record, out of conditions by name."""
        return told[self.accepts[0]]


class ActionConditionerConfig(ConditionerConfig):
    """Base of the configs of conditioners that read `vidar.conditioning.action.Actions`."""

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
    """Stack tensors [J, ..] of several lengths, padded with zeros: [B, length, ..]."""
    return torch.stack([torch.cat([part, part.new_zeros(length - len(part), *part.shape[1:])]) for part in parts])
