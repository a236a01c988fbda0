"""Action following: how a dream turns and walks under its keys, beside the real game under the same keys.

A pose network reads the motion back from the frames, of the dream and of the game itself; the difference to the true
motion of the game is the error, and that of the game's own frames is the error of the network. Motion is turn in
degrees, ahead and left in map units per step; a step error is the length of the difference of (ahead, left).

Per second (every one, also those that overlap), motion is summed, so that the noise of the network cancels.

Not every step can be judged. In front of a plain wall nobody sees a turn: a step is judged only if the network expects
to read the game's own frames well (READABLE; what it expects of the dream does not count, so that garbage cannot hide).
And a wall may stop the game where the dream, which has drifted elsewhere, is free, or the other way round. Choice: a
second of steps is judged only if the game was free in all of it (`free`, see `walking.py`), and its figure is the
median, which one third of the dreams at a wall does not move; nothing stops a turn, so that its figure is the mean.
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

READABLE = {"turn": 1.5, "step": 4.0}  # largest expected error of a step, in degrees and map units. Choice
LEAST = {"turn": 5.0, "step": 10.0}  # real motion per second below which an error is not relative to it. Choice
GAME = "real"  # the view of the game itself
MOST = 8  # largest latency that is looked for, in frames. Choice
SIGNAL = 4.0  # standard errors of a correlation below which there is no latency. Choice
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


def read_motion(net: PoseNet, frames: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the network reads: frames uint8 [E, T, H, W, 3] after first [E, H, W, 3].

    Returns motion and its expected error, each float64 [E, T, 3].
    """
    read = [_read(net, np.concatenate([start[None], clip])) for start, clip in zip(first, frames)]
    found, expected = (np.stack(parts) for parts in zip(*read))
    return found, expected


def _read(net: PoseNet, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clip uint8 [1 + T, H, W, 3] -> motion and expected error [T, 3]; of a still end, one step is read."""
    changes = np.flatnonzero((clip[1:] != clip[:-1]).any((1, 2, 3)))
    steps = min(len(clip) - 1, (int(changes[-1]) + 1 if len(changes) else 0) + 1)
    read = (part[0].double().numpy() for part in net.read(torch.from_numpy(clip[None, : 1 + steps])))
    found, expected = (np.concatenate([part, np.repeat(part[-1:], len(clip) - 1 - steps, 0)]) for part in read)
    return found, expected


def readable(expected: np.ndarray) -> dict[str, np.ndarray]:
    """Expected errors [E, T, 3] -> whether turn and step of a step are to be seen, bool [E, T] each."""
    sizes = {"turn": expected[..., 0], "step": np.linalg.norm(expected[..., 1:], axis=-1)}
    return {name: size <= READABLE[name] for name, size in sizes.items()}


def true_motion(poses: np.ndarray) -> np.ndarray:
    """Poses [E, 1+T, 4] of the game -> motion float64 [E, T, 3]."""
    return motion(torch.from_numpy(np.ascontiguousarray(poses))).numpy()


def key_signals(table: np.ndarray, spec: ActionSpec, groups: Mapping[str, KeyGroup]) -> dict[Axis, np.ndarray]:
    """Table [E, T, A] -> for each axis that keys move, 1, 0 or -1 per step, [E, T]; opposite keys together are 0."""
    pressed = labels(torch.from_numpy(np.ascontiguousarray(table)), spec, groups).numpy()
    found = dict[Axis, np.ndarray]()
    for column, group in enumerate(groups.values()):
        if group.axis is not None:
            found[group.axis] = np.array([0, *group.signs])[pressed[..., column]]
    return found


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
    """Figures of each view as plain JSON, see `errors` and `latencies`, and the share of its steps that are "readable".

    views: frames uint8 [E, T, H, W, 3] by name, all judged by the same poses [E, 1+T, 4]; "real" are the game's own.
    first: uint8 [E, H, W, 3]. keys: see `key_signals`. lasted: int [E], frames before the game ended. free: bool
    [E, T]; None: all steps are. Raises UsageError if the shapes do not fit.
    """
    count, frames = len(first), poses.shape[1] - 1
    if GAME not in views:
        raise UsageError(
            f"the frames of the game are needed as view {GAME!r}, not only {', '.join(views) or 'nothing'}"
        )
    for name, shown in views.items():
        if shown.shape != (count, frames, *first.shape[1:]):
            raise UsageError(f"{name}: frames are {list(shown.shape)}, needed are {[count, frames, *first.shape[1:]]}")
    played = np.full((count, frames), True) if lasted is None else np.arange(frames) < lasted[:, None]
    true, read = true_motion(poses), {name: read_motion(net, shown, first) for name, shown in views.items()}
    seen = readable(read[GAME][1])
    turning, walking = played & seen["turn"], played & seen["step"] & (True if free is None else free)
    found = dict[str, Any]()
    for name, (moved, expected) in read.items():
        shares = {kind: _plain(flags[played].mean()) for kind, flags in readable(expected).items()}
        found[name] = {
            **errors(moved, true, turning, walking, fps),
            "latency": latencies(moved, keys, played),
            "readable": shares,
        }
    return found


def errors(read: np.ndarray, true: np.ndarray, turning: np.ndarray, walking: np.ndarray, fps: float) -> dict[str, Any]:
    """read, true [E, T, 3]; steps to judge, bool [E, T] each -> "turn" and "step", each with

    frame: mean error of a judged step. second: error of a judged second, mean of turns and median of steps. game: how
    far the game turned or walked in the same seconds, back and forth. relative: second / game with `interval`, a 95 %
    bootstrap interval over the starts; None below LEAST. judged: share of the seconds. None: there is nothing to judge.
    """
    found = {}
    for name, judged, axes, middle in (
        ("turn", turning, slice(0, 1), np.mean),
        ("step", walking, slice(1, 3), np.median),
    ):
        off, moved = (read - true)[..., axes], np.linalg.norm(true[..., axes], axis=-1)
        sums = np.linalg.norm(seconds(off, fps), axis=-1), seconds(moved, fps)  # [E, S] each
        whole = seconds(~judged * 1, fps) == 0
        error, game = (float(middle(values[whole])) if whole.any() else float("nan") for values in sums)
        known = game >= LEAST[name]
        found[name] = {
            "frame": _plain(np.linalg.norm(off, axis=-1)[judged].mean() if judged.any() else None),
            "second": _plain(error),
            "game": _plain(game),
            "relative": _plain(error / game if known else None),
            "interval": _interval(*sums, whole, middle) if known else None,
            "judged": _plain(whole.mean()),
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
    """Frames from a key to the motion that follows it, at most `most`: key and moved [E, T] -> 1 without a delay.

    Row t of the keys acts between frames t-1 and t: a motion in step t itself comes after one frame. It is the lag that
    maximises the cross-correlation of the changes. Choice: changes, so that neither long presses nor momentum move the
    peak. None if the keys do not change, if no correlation reaches SIGNAL, or if the strongest is negative.
    """
    causes, effects = (np.diff(values.astype(np.float64), axis=1) for values in (key, moved))
    count = causes.shape[1]
    valid = np.ones(causes.shape, dtype=bool) if played is None else played[:, 1:] & played[:, :-1]
    found = list[float]()
    for lag in range(min(most, count)):
        both = valid[:, : count - lag] & valid[:, lag:]
        cause, effect = causes[:, : count - lag][both], effects[:, lag:][both]
        size = float(np.sqrt((cause**2).sum() * (effect**2).sum()))
        found.append(float((cause * effect).sum()) / size * np.sqrt(len(cause)) if size else 0.0)
    best = int(np.argmax(np.abs(found))) if found else 0
    return 1 + best if found and found[best] >= SIGNAL else None


def _plain(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 4)
