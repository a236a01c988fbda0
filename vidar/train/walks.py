"""Steps of recorded play, with the keys, the steps before, and how far the walls around were: data of a `WalkNet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from vidar.nn.pose import motion
from vidar.train.remembered import RememberedClips, RememberedClipsConfig


@dataclass(frozen=True)
class WalkBatch:
    """See `vidar.nn.walk.WalkNet`. actions [B, past, A], before [B, past, 3], ranges [B, rays], moved [B, 3].

    number: of each sample, long [B]; names: the episodes.
    """

    actions: Tensor
    before: Tensor
    ranges: Tensor
    moved: Tensor
    number: Tensor
    names: Sequence[str]


class WalksConfig(RememberedClipsConfig):
    """clip_frames: steps whose keys are read, plus one."""

    clip_frames: int = Field(ge=2)

    def build(self) -> Walks:
        """See `RememberedClipsConfig`."""
        return Walks(self)


class Walks(RememberedClips):
    """`batch(index)` is a pure function of the index. motion float32 [N, 3]: of each frame's step."""

    def __init__(self, config: RememberedClipsConfig):
        super().__init__(config)
        self.motion = torch.cat([torch.zeros(1, 3), motion(self.pose).float()])
        self.motion[self.first[:-1]] = 0

    def batch(self, index: int) -> WalkBatch:  # pyright: ignore[reportIncompatibleMethodOverride]  # other samples
        """Running batch `index`, from 0: the last step of each clip."""
        rows, numbers, names = self.windows_of(index)
        past, last = rows[:, 1:], rows[:, -1]
        return WalkBatch(
            self.actions[past], self.motion[past - 1], self.ranges[last - 1], self.motion[last], numbers, names
        )
