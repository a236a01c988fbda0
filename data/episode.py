"""Episode: what a recorder returns and a shard stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidar.actions import ActionSpec


@dataclass(frozen=True)
class Episode:
    """One recording.

    frames   uint8 [T, H, W, 3]
    actions  float32 [T, A]; actions[t] acts between frames t-1 and t; row 0 is zeros and never read
    fps      frames per second of the recording
    spec     the meaning of the columns of `actions`
    name     episode id without dots or slashes
    source   "vizdoom:my_way_home", "shapes", "gym:ID", ...
    extras   ground truth by name, first axis T: depth uint8 [T, H, W], labels uint8 [T, H, W], pose float32 [T, 4]
             (x, y, z, angle in degrees), rewards float32 [T], ended bool [T] (whether the game itself is over, True at
             most on the last frame), state of a synthetic world, ...
    caption  plain text or ""
    meta     further JSON values for the side file (seed, scenario, licence of the assets, ...)
    """

    frames: np.ndarray
    actions: np.ndarray
    fps: float
    spec: ActionSpec
    name: str
    source: str
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    caption: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


def ending(count: int, ended: bool) -> np.ndarray:
    """The extra `ended` of an episode, bool [count]: whether the game itself was over at its last frame."""
    marks = np.zeros(count, bool)
    marks[-1] = ended
    return marks
