"""What reads motion back from pictures: a pose network, or in the world of shapes the pixels themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vidar.actions import ActionSpec
from vidar.configs.idm import GROUPS
from vidar.data.synthetic import DIRECTION, ShapesConfig
from vidar.eval.following import key_signals, pose_reader, read_motion
from vidar.eval.following import readable as to_be_seen
from vidar.eval.ruler_play import SHAPES
from vidar.eval.walking import Walking
from vidar.model.model import VideoModelConfig
from vidar.nn.inverse_dynamics import Axis
from vidar.nn.pose import AXES, PoseNet

WHITE = 180  # a pixel whose channels are all above this shows the player of the world of shapes; no other colour does


class MotionReader(Protocol):
    """Motion is turn in degrees, ahead and left in map units, of each step."""

    def read(self, frames: np.ndarray) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Frames uint8 [E, 1 + T, H, W, 3] -> motion float64 [E, T, 3], and where "turn" and "step" are to be seen.

        The latter are bool [E, T] each.
        """
        ...

    def keys(self, table: np.ndarray) -> np.ndarray:
        """Table [E, T, A] -> what the keys ask for: 1, 0 or -1, float64 [E, T, 3]; NaN for an axis without keys."""
        ...

    def free(self, poses: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Poses [E, 1 + T, 4] and keys [E, T, 3] -> whether no wall changed a step of the game, bool [E, T]."""
        ...


@dataclass(frozen=True)
class PoseReading:
    """By the pose network that ships for a world of ViZDoom."""

    net: PoseNet
    spec: ActionSpec

    def read(self, frames: np.ndarray) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """See `MotionReader`."""
        moved, expected = read_motion(self.net, frames[:, 1:], frames[:, 0])
        return moved, to_be_seen(expected)

    def keys(self, table: np.ndarray) -> np.ndarray:
        """See `MotionReader`."""
        signals = self._signals(table)
        none = np.full(table.shape[:2], np.nan)
        return np.stack([signals.get(axis, none).astype(np.float64) for axis in AXES], -1)

    def free(self, poses: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """See `MotionReader`."""
        pressed: dict[Axis, np.ndarray] = {
            axis: np.nan_to_num(keys[..., AXES.index(axis)]) for axis in ("ahead", "left")
        }
        return Walking().free(poses, pressed)

    def _signals(self, table: np.ndarray) -> Mapping[Axis, np.ndarray]:
        return key_signals(table, self.spec, GROUPS)


@dataclass(frozen=True)
class ShapesReading:
    """The player of the world of shapes is the white shape: its place is the mean of its pixels.

    Ahead is to the right and left is down, in pixels. A picture without white pixels shows no motion. step: pixels that
    the player moves per frame.
    """

    step: float

    def read(self, frames: np.ndarray) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """See `MotionReader`."""
        white = (frames > WHITE).all(-1)
        count = white.sum((2, 3))
        y, x = np.indices(white.shape[2:])
        with np.errstate(invalid="ignore"):
            place = np.stack([(white * axis).sum((2, 3)) / np.where(count, count, np.nan) for axis in (x, y)], -1)
        moved = np.nan_to_num(np.diff(place, axis=1))
        everywhere = np.ones(moved.shape[:2], bool)
        return np.concatenate([np.zeros((*moved.shape[:2], 1)), moved], -1), {"turn": everywhere, "step": everywhere}

    def keys(self, table: np.ndarray) -> np.ndarray:
        """See `MotionReader`."""
        ways = DIRECTION[table[..., 0].astype(np.int64)].astype(np.float64)
        return np.concatenate([np.full((*ways.shape[:2], 1), np.nan), ways], -1)

    def free(self, poses: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """See `MotionReader`."""
        moved = np.abs(np.diff(poses[..., :2].astype(np.float64), axis=1)).sum(-1)
        return np.abs(moved - self.step * np.abs(keys[..., 1:]).sum(-1)) < 1e-3


def motion_reader(world: VideoModelConfig, game: str) -> tuple[MotionReader | None, str]:
    """The reader of a game, or None with the reason."""
    if game == SHAPES:
        return ShapesReading(ShapesConfig(height=world.height, width=world.width).step), ""
    found = pose_reader(world)
    if found.net is None:
        return None, found.reason
    return PoseReading(found.net, world.spec), ""
