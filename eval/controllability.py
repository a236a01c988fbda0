"""Action controllability as GameWorld scores it: the actions that a reader sees in a clip against the commanded ones.

keyboard  tasks {forward, back, none}, {left, right, none}, attack, jump; both keys of a pair count as none. The micro
          precision of a task is the share of frames whose label is right, because each frame has one label; the score
          is the mean over the tasks.
camera    nine labels: none, up, down, left, right and the four diagonals, of (pitch, yaw) with a dead zone of 0.01 per
          axis; negative pitch is up. The score is the share of frames whose label is right.

Choice: negative yaw is left. A task that the reader cannot see is left out and not counted in the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from vidar.actions import Action, ActionSpec, mu_law_bins
from vidar.nn.inverse_dynamics import InverseDynamicsNet
from vidar.types import UsageError

KEYS = ("forward", "back", "left", "right", "jump", "attack")
AXES = ("pitch", "yaw")
TASKS: Mapping[str, tuple[str, ...]] = {
    "forward_back": ("forward", "back"),
    "left_right": ("left", "right"),
    "attack": ("attack",),
    "jump": ("jump",),
}
DEAD_ZONE = 0.01
MOUSE = 0.05  # of a commanded direction, per frame
NAMES = {  # parts of the names of keys, the first that occurs counts -> a key, or an axis of the camera and its sign
    **{f"{verb}_LEFT": ("yaw", -1) for verb in ("TURN", "LOOK", "CAMERA")},
    **{f"{verb}_RIGHT": ("yaw", 1) for verb in ("TURN", "LOOK", "CAMERA")},
    **{f"{verb}_UP": ("pitch", -1) for verb in ("LOOK", "CAMERA")},
    **{f"{verb}_DOWN": ("pitch", 1) for verb in ("LOOK", "CAMERA")},
    "FORWARD": ("forward", 1), "BACK": ("back", 1), "LEFT": ("left", 1), "RIGHT": ("right", 1),
    "JUMP": ("jump", 1), "ATTACK": ("attack", 1), "FIRE": ("attack", 1), "SHOOT": ("attack", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Controls:
    """Actions of T frames: keys bool [T, 6] in the order of `KEYS`; camera float64 [T, 2], (pitch, yaw) per frame."""

    keys: np.ndarray
    camera: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: slice) -> Controls:
        return Controls(self.keys[rows], self.camera[rows])


def held(keys: Collection[str], camera: tuple[int, int], frames: int) -> Controls:
    """Keys that are down in every frame, and the signs of (pitch, yaw)."""
    pressed = np.array([key in keys for key in KEYS])
    return Controls(np.tile(pressed, (frames, 1)), np.tile(MOUSE * np.array(camera, np.float64), (frames, 1)))


def joined(parts: Collection[Controls]) -> Controls:
    """Several clips one after another."""
    return Controls(np.concatenate([one.keys for one in parts]), np.concatenate([one.camera for one in parts]))


def keyboard_precision(commanded: Controls, seen: Controls, tasks: Collection[str] = tuple(TASKS)) -> dict[str, float]:
    """Task -> micro precision, and "mean" over the tasks. Raises UsageError for no frames or other numbers of them."""
    _check(commanded, seen)
    scores = {name: _share(_labels(commanded, name), _labels(seen, name)) for name in TASKS if name in tasks}
    return {**scores, "mean": sum(scores.values()) / len(scores)} if scores else {}


def camera_precision(commanded: Controls, seen: Controls) -> float:
    """Share of frames whose direction is right. Raises UsageError for no frames or other numbers of them."""
    _check(commanded, seen)
    return _share(_directions(commanded), _directions(seen))


def _check(commanded: Controls, seen: Controls) -> None:
    if len(commanded) != len(seen) or not len(seen):
        raise UsageError(f"{len(commanded)} commanded frames and {len(seen)} seen ones; give the same number, not 0")


def _labels(controls: Controls, task: str) -> np.ndarray:
    """Per frame 0 for none or both, else 1 or 2: int [T]."""
    down = controls.keys[:, [KEYS.index(key) for key in TASKS[task]]].astype(np.int64)
    return down[:, 0] if down.shape[1] == 1 else np.where(down.all(1), 0, down[:, 0] + 2 * down[:, 1])


def _directions(controls: Controls) -> np.ndarray:
    """Per frame a label 0 .. 8: int [T]."""
    signs = np.sign(controls.camera) * (np.abs(controls.camera) > DEAD_ZONE)
    return (3 * (signs[:, 0] + 1) + signs[:, 1] + 1).astype(np.int64)


def _share(a: np.ndarray, b: np.ndarray) -> float:
    return int((a == b).sum()) / len(a)


Role = tuple[str, int]  # a key and 1, or an axis of the camera and the sign of what the column's value 1 does


def role(action: Action) -> Role | None:
    """What a column does, by its name; None if that is none of `KEYS` and `AXES`."""
    if action.kind in ("camera", "continuous"):
        return ("pitch" if action.mouse_axis == "y" else "yaw"), 1
    if action.kind != "binary":
        return None
    name = action.name.upper().replace(" ", "_")
    return next((meant for part, meant in NAMES.items() if part in name), None)


def rows_of(controls: Controls, spec: ActionSpec) -> np.ndarray | None:
    """Controls as rows of a world, float32 [T, A]; None if the world lacks a key or direction that they need.

    Choice: 0.05 of a continuous column is 0.05 of half its range, and of a camera column 0.05 radians.
    """
    roles = [role(action) for action in spec.actions]
    rows = np.repeat(spec.noop()[None], len(controls), axis=0)
    done = np.zeros((len(controls), len(KEYS) + len(AXES)), bool)
    needed = np.concatenate([controls.keys, controls.camera != 0], axis=1)
    for column, (action, meant) in enumerate(zip(spec.actions, roles)):
        if meant is None:
            continue
        name, sign = meant
        at = (*KEYS, *AXES).index(name)
        if name in KEYS:
            rows[:, column] = controls.keys[:, at]
            done[:, at] |= controls.keys[:, at]
        elif action.kind == "binary":
            pressed = np.sign(controls.camera[:, at - len(KEYS)]) == sign
            rows[:, column] = pressed
            done[:, at] |= pressed
        else:
            rows[:, column] = _mouse(action, controls.camera[:, at - len(KEYS)])
            done[:, at] = True
    return None if (needed & ~done).any() else rows


def _mouse(action: Action, moved: np.ndarray) -> np.ndarray:
    if action.kind == "camera":
        return mu_law_bins(np.degrees(moved), action.size).astype(np.float32)
    return np.clip(action.noop + moved * (action.high - action.low) / 2, action.low, action.high).astype(np.float32)


@dataclass(frozen=True)
class Reading:
    """What an inverse-dynamics model saw in a clip. rows: the steps that it can judge; tasks: those that it knows."""

    controls: Controls
    rows: slice
    tasks: tuple[str, ...]
    camera: bool


def read_controls(net: InverseDynamicsNet, frames: np.ndarray) -> Reading:
    """Read uint8 [T, H, W, 3]. A task or the camera is known if some class of the model means one of its keys.

    Raises UsageError if the clip is shorter than the model's window, or of another size.
    """
    rows = net.config.steps(len(frames))
    size = (net.config.height, net.config.width)
    if frames.shape[1:3] != size:
        raise UsageError(f"frames of {frames.shape[2]}x{frames.shape[1]}, the reader needs {size[1]}x{size[0]}")
    found = net.predict(torch.from_numpy(np.ascontiguousarray(frames))[None])[0].numpy()  # [T', groups]
    actions = {action.name: role(action) for action in net.config.spec.actions}
    keys, camera = np.zeros((len(found), len(KEYS)), bool), np.zeros((len(found), len(AXES)))
    known: set[str] = set()
    for column, group in enumerate(net.config.groups.values()):
        for label, names in enumerate(group.classes, 1):
            meant = {actions[name] for name in names}
            if len(meant) > 1 or (one := meant.pop()) is None:
                continue
            (name, sign), at = one, found[:, column] == label
            known.add(name)
            if name in KEYS:
                keys[at, KEYS.index(name)] = True
            else:
                camera[at, AXES.index(name)] = sign * MOUSE
    tasks = tuple(task for task, pair in TASKS.items() if known & {*pair})
    return Reading(Controls(keys, camera), rows, tasks, bool(known & {*AXES}))
