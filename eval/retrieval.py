"""Retrieval of recorded play by its actions: a baseline that has perfect pictures and no memory.

Second by second, the recorded piece whose keys are nearest to the wanted ones is shown. Among equally near pieces the
one counts that begins with the picture nearest to the one before. All distances are whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidar.data.atomic import replacing
from vidar.types import UsageError

CELLS = 8  # a picture is compared by the sums of CELLS x CELLS areas
STRIDE = 4  # frames between the beginnings of two pieces
KEY_STEPS = 64  # of an action's value, so that distances of actions are whole numbers


@dataclass(frozen=True)
class Clips:
    """Recorded play as one sequence: frames uint8 [N, H, W, 3], actions [N, A]; row n leads to frame n.

    begins: the first frame of each game, and N.
    """

    frames: np.ndarray
    actions: np.ndarray
    begins: tuple[int, ...]

    @staticmethod
    def of(frames: Sequence[np.ndarray], actions: Sequence[np.ndarray]) -> Clips:
        """Games of frames [T, H, W, 3] and actions [T, A]. Raises UsageError for none, or for unequal lengths."""
        if not frames or [len(f) for f in frames] != [len(a) for a in actions]:
            raise UsageError("retrieval needs games with one action row per frame")
        begins = (0, *np.cumsum([len(f) for f in frames]).tolist())
        return Clips(np.concatenate(frames), np.concatenate(actions), begins)

    def save(self, file: Path) -> None:
        """Write it into one .npz file."""
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, frames=self.frames, actions=self.actions, begins=np.array(self.begins))

    @staticmethod
    def load(file: Path) -> Clips:
        """Raises OSError, ValueError or KeyError for a file that is damaged."""
        with np.load(file, allow_pickle=False) as found:
            return Clips(found["frames"], found["actions"], tuple(found["begins"].tolist()))

    def follow(self, first: np.ndarray, table: np.ndarray, length: int) -> np.ndarray:
        """Frames for one start: uint8 [T, H, W, 3] for a table [T, A], in pieces of `length` frames.

        first: the picture before the first row, uint8 [H, W, 3].
        """
        places = [
            place
            for begin, end in zip(self.begins, self.begins[1:])
            for place in range(begin + 1, end - length + 1, STRIDE)
        ]
        if not places:
            raise UsageError(f"no recorded game has {length + 1} frames; retrieval needs longer games")
        starts = np.array(places)
        keys = _steps(self.actions)[starts[:, None] + np.arange(length)]  # [P, length, A]
        before = _thumbnails(self.frames[starts - 1])
        shown, last = [], first
        for begin in range(0, len(table), length):
            wanted = _steps(table[begin : begin + length])
            off = np.abs(keys[:, : len(wanted)] - wanted).sum((1, 2))
            near = np.flatnonzero(off == off.min())
            pictures = np.abs(before[near] - _thumbnails(last[None])).sum(1)
            place = int(starts[near[np.argmin(pictures)]])
            shown.append(self.frames[place : place + len(wanted)])
            last = shown[-1][-1]
        return np.concatenate(shown)


def _steps(actions: np.ndarray) -> np.ndarray:
    return np.rint(actions * KEY_STEPS).astype(np.int64)


def _thumbnails(frames: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> sums of equal areas, int64 [N, CELLS CELLS 3]; what is left over at the right is unused."""
    height, width = (side // CELLS for side in frames.shape[1:3])
    cut = frames[:, : height * CELLS, : width * CELLS].astype(np.int64)
    return cut.reshape(len(frames), CELLS, height, CELLS, width, 3).sum((2, 4)).reshape(len(frames), -1)
