"""Feature extractors of videos: the protocol, and those that need no weights.

Distances of features may be compared only if the extractor, the number of clips, their frames and stride, and the size
of the videos agree; therefore `name` identifies an extractor completely, down to the hash of its weights.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidar.rng import Rng
from vidar.types import UsageError


class Extractor(Protocol):
    """Maps clips to feature vectors.

    name: what it is, with version and hash of its weights. dim: number of features d. frames: the fewest and the most
    frames of a clip. multiple: height and width must be multiples of it.
    """

    name: str
    dim: int
    frames: tuple[int, int]
    multiple: int

    def __call__(self, video: np.ndarray) -> np.ndarray:
        """uint8 [B, T, H, W, 3] -> float32 [B, d]."""
        ...


LONGEST = 1 << 16  # frames of a clip, for extractors that take any number


def check_clip(extractor: Extractor, frames: int, size: tuple[int, int]) -> None:
    """Raises UsageError if clips of this many frames and this (height, width) do not suit an extractor."""
    fewest, most = extractor.frames
    if not fewest <= frames <= most:
        want = f"exactly {fewest}" if fewest == most else f"at least {fewest}" if frames < fewest else f"at most {most}"
        raise UsageError(f"{extractor.name} takes clips of {want} frames, not {frames}; set --frames")
    if any(side % extractor.multiple for side in size):
        height, width = (max(1, round(side / extractor.multiple)) * extractor.multiple for side in size)
        raise UsageError(
            f"{extractor.name} takes sides that are multiples of {extractor.multiple}, the videos are "
            f"{size[1]}x{size[0]}; resize both sides, for example with --size {width}x{height}"
        )


class Pixels:
    """Mean colours of the cells of an 8 x 8 x 8 grid over time, height and width: 1,536 numbers in [0, 255].

    Exact: sums of integers, then one division, so that the features are equal on every machine.
    """

    CELLS = 8
    name = "pixels-8x8x8"
    dim = 3 * CELLS**3
    frames = (CELLS, LONGEST)
    multiple = 1

    def __call__(self, video: np.ndarray) -> np.ndarray:
        """See `Extractor`. Raises UsageError for sides below 8 pixels."""
        if min(video.shape[2:4]) < self.CELLS:
            raise UsageError(f"{self.name} needs at least {self.CELLS} pixels per side, got {list(video.shape[2:4])}")
        total, count = video.astype(np.int64), np.ones((), np.int64)
        for axis in (1, 2, 3):
            bounds = np.arange(self.CELLS + 1) * video.shape[axis] // self.CELLS
            total = np.add.reduceat(total, bounds[:-1], axis=axis)
            shape = np.ones(5, np.int64)
            shape[axis] = self.CELLS
            count = count * np.diff(bounds).reshape(shape)
        return (total / count).reshape(len(video), -1).astype(np.float32)


class RandomNet:
    """A random 3-D convolutional network of fixed weights: mean and deviation of its 32 last channels, 64 numbers.

    Three convolutions of 3 x 3 x 3 with ReLU and He's initialisation, each halving height and width and the last two
    halving time, on the video averaged down or repeated up to 64 x 64 pixels. Its weights are `Rng(0)`'s, so they are
    equal everywhere. Random features rank gross faults; they do not know which faults people see.
    """

    SIDE, WIDTHS = 64, (3, 12, 24, 32)
    name = "random3d-0"
    dim = 2 * WIDTHS[-1]
    frames = (4, LONGEST)
    multiple = 1

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        for layer, (narrow, wide) in enumerate(zip(self.WIDTHS, self.WIDTHS[1:])):
            drawn = Rng(0).normal("weights", layer, 0, (wide, narrow, 3, 3, 3))
            self.weights.append((drawn * (2.0 / (27 * narrow)) ** 0.5).float())

    @torch.inference_mode()
    def __call__(self, video: np.ndarray) -> np.ndarray:
        """See `Extractor`."""
        return torch.cat([self._one(clip) for clip in video]).numpy()

    def _one(self, clip: np.ndarray) -> Tensor:
        frames = torch.from_numpy(np.ascontiguousarray(clip)).float().permute(0, 3, 1, 2) / 127.5 - 1
        x = F.adaptive_avg_pool2d(frames, self.SIDE).transpose(0, 1)[None]  # [1, 3, T, 64, 64]
        for layer, weight in enumerate(self.weights):
            x = F.relu(F.conv3d(x, weight, stride=(1 if layer == 0 else 2, 2, 2), padding=1))
        rows = x.flatten(2)
        return torch.cat([rows.mean(2), rows.std(2, correction=0)], 1)


def to_square(video: np.ndarray, side: int) -> Tensor:
    """uint8 [B, T, H, W, 3] -> float32 [B, 3, T, side, side] in [0, 255], each frame resized bilinearly.

    Without antialiasing and with align_corners False, as the published FVD, CD-FVD and JEDi implementations do.
    """
    batch, frames = video.shape[:2]
    x = torch.from_numpy(np.ascontiguousarray(video)).float().flatten(0, 1).permute(0, 3, 1, 2)
    x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    return x.unflatten(0, (batch, frames)).transpose(1, 2).contiguous()
