"""Read and check the context frames of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vidar.data.video import read_video
from vidar.types import UsageError, VidarError


class Sized(Protocol):
    """The config of a model with a fixed frame size."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def height(self) -> int:
        """Height of a frame in pixels."""
        ...

    @property
    def width(self) -> int:
        """Width of a frame in pixels."""
        ...


def context_frames(config: Sized, start: Path | None, context: Any) -> Tensor:
    """Frames, one frame, a path or None (`start`) -> uint8 [T, H, W, 3] of the model's size.

    Raises UsageError if there is neither a context nor a start clip, VidarError for frames that do not fit.
    """
    name = "the context"
    if context is None and start is None:
        raise UsageError(f"world {config.name!r} ships no start clip; give context frames or a video")
    context = start if context is None else context
    if isinstance(context, str | os.PathLike):
        name = str(Path(context))
        context = read_video(context)[0]
    frames = torch.from_numpy(np.array(context))
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or not len(frames):
        raise VidarError(f"{name}: expected uint8 frames T x H x W x 3, got {frames.dtype} {list(frames.shape)}")
    check_size(config, frames.shape[1], frames.shape[2], name)
    return frames


def check_size(config: Sized, height: int, width: int, name: str) -> None:
    """Raises VidarError if the frames do not have the size of the model."""
    want = (config.height, config.width)
    if (height, width) != want:
        raise VidarError(f"{name} is {width}x{height}, this model is {want[1]}x{want[0]}; resize it first")
