"""Action following: how a dream turns and walks under its keys, beside the real game under the same keys.

A pose network reads the motion back from the frames, of the dream and of the game itself; the difference to the true
motion of the game is the error, and that of the game's own frames is the error of the network. Motion is turn in
degrees, ahead and left in map units per step; a step error is the length of the difference of (ahead, left).

Per second (every one, also those that overlap), motion is summed, so that the noise of the network cancels. A wall may stop the game where the dream, which
has drifted elsewhere, is free, or the other way round. Choice: the step of a second is judged only if all of its steps
in the game were free (`free`, see `walking.py`), and its figure is the median, which one third of dreams at a wall does
not move; nothing stops a turn, so that all its seconds are judged, by their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vidar.actions import ActionSpec
from vidar.eval.inverse_dynamics import shipped
from vidar.model.model import VideoModelConfig
from vidar.nn.inverse_dynamics import Axis, KeyGroup, labels
from vidar.nn.pose import AXES, PoseNet, motion
from vidar.types import UsageError

LEAST = {"turn": 5.0, "step": 10.0}  # real motion per second below which an error is not relative to it. Choice
MOST = 8  # largest latency that is looked for, in frames. Choice
SIGNAL = 0.2  # correlation below which there is no latency. Choice
RESAMPLES = 1000


@dataclass(frozen=True)
class PoseReader:
    """The pose network of a world, or None with the reason why there is none."""

    net: PoseNet | None
    reason: str = ""


def pose_reader(world: VideoModelConfig) -> PoseReader:
    """The pose network that ships for the world's name, if it reads frames of this size."""
    folder = shipped(world.name, "pose")
    if folder is None:
        return PoseReader(None, f"no pose network ships for world '{world.name}'")
    net = PoseNet.from_pretrained(folder)
    own, size = (net.config.height, net.config.width), (world.height, world.width)
    if own != size:
        return PoseReader(
            None, f"the pose network of '{world.name}' reads {own[0]} x {own[1]}, not {size[0]} x {size[1]}"
        )
    return PoseReader(net)


def read_motion(net: PoseNet, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    """What the network reads: frames uint8 [E, T, H, W, 3] after first [E, H, W, 3] -> motion float64 [E, T, 3]."""
    found = [
        net.read(torch.from_numpy(np.concatenate([start[None], clip]))[None])[0] for start, clip in zip(first, frames)
    ]
    return torch.stack(found).double().numpy()


def true_motion(poses: np.ndarray) -> np.ndarray:
    """Poses [E, 1+T, 4] of the game -> motion float64 [E, T, 3]."""
    return motion(torch.from_numpy(np.ascontiguousarray(poses))).numpy()


def key_signals(table: np.ndarray, spec: ActionSpec, groups: Mapping[str, KeyGroup]) -> dict[Axis, np.ndarray]:
    """Table [E, T, A] -> for each axis that keys move, 1, 0 or -1 per step, [E, T]; opposite keys together are 0."""
    pressed = labels(torch.from_numpy(np.ascontiguousarray(table)), spec, groups).numpy()
    signs = {group.axis: np.array([0, *group.signs]) for group in groups.values()}
    return {axis: signs[axis][pressed[..., column]] for column, axis in enumerate(signs) if axis is not None}


def seconds(values: np.ndarray, fps: float) -> np.ndarray:
    """[E, T, ...] -> sums over every second, [E, T - length + 1, ...], where length is round(fps) steps, at most T."""
    length = min(max(1, round(fps)), values.shape[1])
    total = np.concatenate([np.zeros_like(values[:, :1]), np.cumsum(values, axis=1)], axis=1)
    return total[:, length:] - total[:, :-length]


def following(
    net: PoseNet,
    views: Mapping[str, np.ndarray],
    first: np.ndarray,
    poses: np.ndarray,
    keys: Mapping[Axis, np.ndarray],
    fps: float,
    lasted: np.ndarray | None = None,
    free: np.ndarray | None = None,
) -> dict[str, Any]:
    """Figures of each view as plain JSON, see `errors` and `latencies`; "real": the game's frames, "model": a dream.

    views: frames uint8 [E, T, H, W, 3] by name, all judged by the same poses [E, 1+T, 4]. first: uint8 [E, H, W, 3].
    keys: see `key_signals`. lasted: int [E], frames before the game ended. free: bool [E, T]; None: all steps are. Raises
    UsageError if the shapes do not fit.
    """
    count, frames = len(first), poses.shape[1] - 1
    for name, shown in views.items():
        if shown.shape != (count, frames, *first.shape[1:]):
            raise UsageError(f"{name}: frames are {list(shown.shape)}, needed are {[count, frames, *first.shape[1:]]}")
    played = np.full((count, frames), True) if lasted is None else np.arange(frames) < lasted[:, None]
    true, found = true_motion(poses), dict[str, Any]()
    for name, shown in views.items():
        read = read_motion(net, shown, first)
        found[name] = {
            **errors(read, true, played, played if free is None else free & played, fps),
            "latency": latencies(read, keys, played),
        }
    return found


def errors(read: np.ndarray, true: np.ndarray, played: np.ndarray, free: np.ndarray, fps: float) -> dict[str, Any]:
    """read, true [E, T, 3]; played, free bool [E, T] -> "turn" and "step", each with

    frame: mean error of a judged step. second: error of a judged second, mean of turns and median of steps; game and
    read: the true and the read motion in the same seconds. relative: second / game with `interval`, a 95 % bootstrap
    interval over the starts; None below LEAST. judged: share of the seconds. None: there is nothing to judge.
    """
    off, length = np.abs(read[..., :1] - true[..., :1]), np.linalg.norm(read[..., 1:] - true[..., 1:], axis=-1)
    found = {}
    for name, each, judged, axes, middle in (
        ("turn", off[..., 0], played, slice(0, 1), np.mean),
        ("step", length, free, slice(1, 3), np.median),
    ):
        sums = [np.linalg.norm(seconds(values[..., axes], fps), axis=-1) for values in (read - true, true, read)]
        whole = seconds(~judged * 1, fps) == 0  # [E, S]
        error, game, seen = ([float(middle(values[whole])) for values in sums]) if whole.any() else [None] * 3
        known = game is not None and game >= LEAST[name]
        found[name] = {
            "frame": _plain(each[judged].mean() if judged.any() else None),
            "second": _plain(error),
            "game": _plain(game),
            "read": _plain(seen),
            "relative": _plain(error / game) if known and error is not None and game else None,
            "interval": _interval(sums[0], sums[1], whole, middle) if known else None,
            "judged": _plain(whole.mean() if whole.size else None),
        }
    return found


def _interval(error: np.ndarray, game: np.ndarray, judged: np.ndarray, middle: Any) -> list[float] | None:
    """Of the relative error: starts are drawn with replacement; a draw without a judged second is left out."""
    random = np.random.Generator(np.random.Philox(0))
    found = []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(error), len(error))
        at = judged[drawn]
        if at.any() and (below := float(middle(game[drawn][at]))) > 0:
            found.append(float(middle(error[drawn][at])) / below)
    return [round(float(np.quantile(found, q)), 4) for q in (0.025, 0.975)] if found else None


def latencies(read: np.ndarray, keys: Mapping[Axis, np.ndarray], played: np.ndarray) -> dict[str, int | None]:
    """The latency of each axis, see `latency`; None without a signal."""
    return {axis: latency(keys[axis], read[..., AXES.index(axis)], played) if axis in keys else None for axis in AXES}


def latency(key: np.ndarray, moved: np.ndarray, played: np.ndarray | None = None, most: int = MOST) -> int | None:
    """Frames from a key to the motion that follows it, at most `most`: key and moved [E, T] -> 1 in a game without delay.

    Row t of the keys acts between frames t-1 and t: a motion in step t itself comes after one frame. It is the lag that
    maximises the cross-correlation of the changes. Choice: changes, so that neither long presses nor momentum move the
    peak. None if the keys do not change, if no correlation reaches SIGNAL, or if the strongest is negative.
    """
    changes = [np.diff(values.astype(np.float64), axis=1) for values in (key, moved)]
    valid = np.ones(changes[0].shape, dtype=bool) if played is None else played[:, 1:] & played[:, :-1]
    found = []
    for lag in range(min(most, valid.shape[1])):
        both = valid[:, : valid.shape[1] - lag] & valid[:, lag:]
        cause, effect = (values[both] for values in (changes[0][:, : valid.shape[1] - lag], changes[1][:, lag:]))
        size = float(np.sqrt((cause**2).sum() * (effect**2).sum()))
        found.append(float((cause * effect).sum()) / size if size else 0.0)
    best = int(np.argmax(np.abs(found))) if found else 0
    return 1 + best if found and found[best] >= SIGNAL else None


def _plain(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
