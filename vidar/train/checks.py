"""What the config of a method may bring beside `build`: checks before anything expensive, a step without storage."""

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
    """A config whose parts have to fit."""

    def check(self, data: Any) -> None:
        """They fit one another, and the config of the data. Raises UsageError or VidarError naming the key."""
        ...


@runtime_checkable
class ChecksData(Protocol):
    """A config that not all data on disk fits."""

    def check_data(self, data: Any, index: Index | None) -> None:
        """The data on disk has the size and actions of the model (None: there is none), and what is gone on from is
        there. Raises UsageError or VidarError naming the file."""
        ...


@dataclass(frozen=True)
class DryRun:
    """model: without storage. step: a call that makes the graph of one batch; None: the frame size is unknown.

    teacher: beside the model, which nothing trains or averages.
    """

    model: nn.Module
    step: Callable[[], Any] | None
    teacher: nn.Module | None = None


@runtime_checkable
class DryRuns(Protocol):
    """A config that can say what a step takes of memory."""

    def dry_run(self, data: Any) -> DryRun | None:
        """A step on a batch of this data, on the device "meta"; None where its shapes are not known."""
        ...


@runtime_checkable
class OnDisk(Protocol):
    """The config of data that lies in a folder of shards."""

    path: str
    split: str


def blank(data: Any) -> Tensor | None:
    """A batch of clips of the data without storage, uint8 [B, T, H, W, 3]; None where the data is not there."""
    try:
        index = load_index(data.path)
    except VidarError:
        return None
    return torch.empty(data.batch, data.clip_frames, index.height, index.width, 3, dtype=torch.uint8, device="meta")


def check_equal(data: Any, theirs: dict[str, Any]) -> None:
    """Raises UsageError unless data and method agree on these fields of the data, where it has them."""
    for key, value in theirs.items():
        if getattr(data, key, value) != value:
            raise UsageError(
                f"data.{key} is {getattr(data, key)!r}, the method has {value!r}; set both to the same value"
            )


def check_tokenizer(directory: str, declared: Config) -> None:
    """The trained tokenizer is there and of the declared kind. Raises UsageError."""
    folder = Path(directory)
    if not (folder / "model.safetensors").is_file():
        raise UsageError(f"{folder}: no tokenizer there; train one first and give its folder: tokenizer=RUN/model")
    if load_file(folder / "config.json") != declared:
        raise UsageError(f"{folder}: differs from the recipe's tokenizer; train it with the same preset and settings")
