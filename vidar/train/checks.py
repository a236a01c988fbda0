"""Optional protocols of a method's config: checks before anything expensive, and a dry run without storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vidar.config import Config, load_file
from vidar.data.index import Index, load_index
from vidar.types import UsageError, VidarError


@runtime_checkable
class Checks(Protocol):
    """A config that checks whether its parts fit each other."""

    def check(self, data: Any) -> None:
        """Check the parts against each other and the data config. Raises UsageError or VidarError naming the key."""
        ...


@runtime_checkable
class ChecksData(Protocol):
    """A config that checks the data on disk."""

    def check_data(self, data: Any, index: Index | None) -> None:
        """Check size and actions of the data on disk (index None: no data), and that all files to start from exist.

        Raises UsageError or VidarError naming the file.
        """
        ...


@dataclass(frozen=True)
class DryRun:
    """model: on the device "meta". step: a call that builds the graph of one batch; None: the frame size is unknown.

    teacher: a frozen network beside the model, which is not averaged, or None.
    """

    model: nn.Module
    step: Callable[[], Any] | None
    teacher: nn.Module | None = None


@runtime_checkable
class DryRuns(Protocol):
    """A config that can make a step without storage, to estimate memory."""

    def dry_run(self, data: Any) -> DryRun | None:
        """A step on a batch of this data, on the device "meta"; None if its shapes are unknown."""
        ...


@runtime_checkable
class OnDisk(Protocol):
    """The config of data in a folder of shards."""

    path: str
    split: str


def blank(data: Any) -> Tensor | None:
    """A batch of clips on the device "meta", uint8 [B, T, H, W, 3]; None if the data is missing."""
    try:
        index = load_index(data.path)
    except VidarError:
        return None
    return torch.empty(data.batch, data.clip_frames, index.height, index.width, 3, dtype=torch.uint8, device="meta")


def check_equal(data: Any, theirs: dict[str, Any]) -> None:
    """Raises UsageError unless data and method agree on these fields, as far as the data has them."""
    for key, value in theirs.items():
        if getattr(data, key, value) != value:
            raise UsageError(
                f"data.{key} is {getattr(data, key)!r}, the method has {value!r}; set both to the same value"
            )


def check_extra(data: Any, extra: str, what: str) -> None:
    """Raises UsageError unless the clips bring this extra, which `what` needs."""
    if extra not in data.extras:
        raise UsageError(f"data.extras is {list(data.extras)}, a {what} needs the extra {extra!r}; add it")


def check_frames(data: Any, index: Index | None, height: int, width: int) -> None:
    """Raises UsageError unless the frames have the size that the network reads."""
    if index is not None and (index.height, index.width) != (height, width):
        size = f"{index.height} x {index.width}"
        raise UsageError(f"{data.path}: frames are {size}, the network reads {height} x {width}")


def check_tokenizer(directory: str, declared: Config) -> None:
    """Raises UsageError unless the trained tokenizer exists and has the declared config."""
    folder = Path(directory)
    if not (folder / "model.safetensors").is_file():
        raise UsageError(f"{folder}: no tokenizer there; train one first and give its folder: tokenizer=RUN/model")
    if load_file(folder / "config.json", "train it again") != declared:
        raise UsageError(f"{folder}: differs from the recipe's tokenizer; train it with the same preset and settings")
