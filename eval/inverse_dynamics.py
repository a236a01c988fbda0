"""Scores of an inverse-dynamics model: which steps can be judged, and how many of them it reads correctly.

GameWorld's action controllability, with balanced accuracy instead of precision: keys are mostly up, and a model that
always predicts none must not score well.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from vidar.nn.inverse_dynamics import Axis, InverseDynamicsNet, KeyGroup, labels
from vidar.nn.pose import AXES
from vidar.nn.pose import motion as pose_motion
from vidar.types import UsageError

# axis: the largest change at rest, the smallest change by a key, in one step; degrees and map units. Choice, from
# 4,871 steps of held-out play: turning is 0 at rest and 3.5 to 7 degrees with a key. A walk ends slowly (a fifth of
# the speed is lost per step), so that sliding with the key up does not contradict rest; a first step from a stand
# covers 2 to 3 units, and less than 1 is a wall or a slide in the other direction.
LIMITS: Mapping[Axis, tuple[float, float]] = {"turn": (0.5, 0.5), "ahead": (0.5, 1.0), "left": (0.5, 1.0)}


def shipped(name: str, kind: str = "idm") -> Path | None:
    """The folder of the inverse-dynamics model (kind pose: the pose network) that ships for a world, or None."""
    folder = Path(str(files("vidar.pretrained"))) / f"{name}_{kind}"
    return folder if (folder / "config.json").is_file() else None


def action_scores(
    net: InverseDynamicsNet, frames: np.ndarray, actions: np.ndarray, poses: np.ndarray | None = None
) -> dict[str, float]:
    """Balanced accuracy of each group of keys over the judged steps of all episodes, and their "mean".

    frames uint8 [E, T, H, W, 3]; actions float32 [E, T, A], row t acts between frames t-1 and t; poses [E, T, 4] of
    the recorded play. With poses, a step is judged if the pose changed as the keys say; without poses, every step is
    judged. Steps without a full window are left out, and so is a group without a judged step. Raises UsageError if
    the shapes do not fit.
    """
    config = net.config
    expected = (*frames.shape[:2], len(config.spec.names))
    if actions.shape != expected or (poses is not None and poses.shape != (*frames.shape[:2], 4)):
        raise UsageError(
            f"frames {list(frames.shape)} go with actions {list(expected)} and poses {[*expected[:2], 4]}, not "
            f"{list(actions.shape)} and {None if poses is None else list(poses.shape)}"
        )
    steps = config.steps(frames.shape[1])
    truth = labels(torch.from_numpy(np.ascontiguousarray(actions)), config.spec, config.groups).numpy()
    judged = np.ones(truth.shape, dtype=bool)
    if poses is not None:
        judged = np.stack([obeyed(pose, config.groups, row) for pose, row in zip(poses, truth)])
    found = [net.predict(torch.from_numpy(np.ascontiguousarray(clip))[None])[0].numpy() for clip in frames]
    return group_scores(config.groups, truth[:, steps], np.stack(found), judged[:, steps])


def group_scores(
    groups: Mapping[str, KeyGroup], truth: np.ndarray, found: np.ndarray, judged: np.ndarray
) -> dict[str, float]:
    """Truth, found and judged, each [..., groups] -> balanced accuracy of each group with a judged step, and "mean"."""
    scores: dict[str, float] = {}
    for column, (name, group) in enumerate(groups.items()):
        at = judged[..., column]
        if at.any():
            table = confusion(truth[..., column][at], found[..., column][at], len(group.labels))
            scores[name] = balanced_accuracy(table)
    return {**scores, "mean": float(np.mean(list(scores.values())))} if scores else {}


def motion(pose: np.ndarray) -> dict[Axis, np.ndarray]:
    """Pose [T, 4] (x, y, z, angle in degrees, counter-clockwise) -> change since the previous frame, each [T].

    turn: degrees in [-180, 180). ahead, left: map units along and across the heading at frame t. Row 0 is 0.
    """
    steps = pose_motion(torch.from_numpy(np.ascontiguousarray(pose))).numpy()
    return dict(zip(AXES, np.concatenate([np.zeros((1, len(AXES))), steps]).T))


def obeyed(pose: np.ndarray, groups: Mapping[str, KeyGroup], labels: np.ndarray) -> np.ndarray:
    """Whether the pose changed as the keys say: pose [T, 4], labels [T, groups] -> bool [T, groups].

    With a key: more than the second value of `LIMITS` in its direction. With none: at most the first, in either
    direction. Row 0 is False; a group without an axis is True elsewhere.
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
    """Mean over the occurring classes of the share read correctly, from a confusion table [count, count].

    It is nan if no class occurs.
    """
    seen = table.sum(1)
    if not seen.any():
        return float("nan")
    return float((np.diag(table)[seen > 0] / seen[seen > 0]).mean())
