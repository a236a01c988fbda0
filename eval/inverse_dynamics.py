"""Scores of an inverse-dynamics model: which steps can be judged, and how many of them it reads right.

GameWorld's action controllability, with balanced accuracy in the place of precision: keys are mostly up, and a model
that always says none shall not look good.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vidar.nn.inverse_dynamics import Axis, KeyGroup

# axis: the most that a rest moves, the least that a key moves, in one step; degrees and map units.
# Choice, from 4,871 steps of held-out play: turning is 0 at rest and 3.5 to 7 degrees with a key. A walk ends slowly
# (a fifth of the speed goes with each step), so that sliding on with the key up is no evidence of a rest; a first step
# from a stand covers 2 to 3 units, and less than 1 is a wall or a slide the other way.
LIMITS: Mapping[Axis, tuple[float, float]] = {"turn": (0.5, 0.5), "ahead": (0.5, 1.0), "left": (0.5, 1.0)}


def motion(pose: np.ndarray) -> dict[Axis, np.ndarray]:
    """Pose [T, 4] (x, y, z, angle in degrees, counter-clockwise) -> change since the frame before, each [T].

    turn: degrees in [-180, 180). ahead, left: map units along and across the heading at frame t. Row 0 is 0.
    """
    change = np.diff(pose.astype(np.float64), axis=0, prepend=pose[:1].astype(np.float64))
    heading = np.deg2rad(pose[:, 3].astype(np.float64))
    cos, sin = np.cos(heading), np.sin(heading)
    return {
        "turn": (change[:, 3] + 180) % 360 - 180,
        "ahead": change[:, 0] * cos + change[:, 1] * sin,
        "left": change[:, 1] * cos - change[:, 0] * sin,
    }


def obeyed(pose: np.ndarray, groups: Mapping[str, KeyGroup], labels: np.ndarray) -> np.ndarray:
    """Where the pose changed as the keys say: pose [T, 4], labels [T, groups] -> bool [T, groups].

    A key: more than the second of `LIMITS` in its direction. None: at most the first, either way. Row 0 is False; a
    group without an axis is True elsewhere.
    """
    moved = motion(pose)
    mask = np.ones(labels.shape, dtype=bool)
    for column, group in enumerate(groups.values()):
        if group.axis is None:
            continue
        rest, least = LIMITS[group.axis]
        way = np.array([0, *group.signs])[labels[:, column]]
        along = moved[group.axis]
        mask[:, column] = np.where(way == 0, np.abs(along) <= rest, along * way > least)
    mask[0] = False
    return mask


def confusion(truth: np.ndarray, found: np.ndarray, count: int) -> np.ndarray:
    """Labels [N] and [N] below `count` -> how often, long [count, count]: rows are the truth."""
    return np.bincount(truth * count + found, minlength=count * count).reshape(count, count)


def balanced_accuracy(table: np.ndarray) -> float:
    """Mean over the classes that occur of the share read right, from a confusion table; nan where nothing occurs."""
    seen = table.sum(1)
    if not seen.any():
        return float("nan")
    return float((np.diag(table)[seen > 0] / seen[seen > 0]).mean())
