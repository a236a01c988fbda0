"""Layouts of benchmarks for worlds: which clips they want, how the files are called, and what lies beside a clip.

gameworld  `{index}_{action_name}.mp4`, 65 frames of one action: 6 single keys, 13 pairs, 48 key and camera, 8 cameras,
           and Choice: no action as the 76th, in this order and with these names
mind       Choice: `{index}_{action_name}/video.mp4` with action.json, `{"mark_time", "total_time", "data": [{"time",
           "ws", "ad", "ud", "lr"}]}`, whose values are 0 none, 1 forward, left or up, 2 back, right or down. The fields
           are from general knowledge and were not compared with a file of the benchmark
wbench     Choice: `{index}_{action_name}/turn_0.mp4` with turns.json, `{"turns": [{"video", "frames", "keys",
           "camera"}]}`, one turn. No description of its files was at hand: this is our own, which its tools do not
           read
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np

from vidar.eval.controllability import KEYS, MOUSE, Controls, held
from vidar.types import VidarError

DIRECTIONS = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
CAMERAS = {
    "up": DIRECTIONS["u"],
    "down": DIRECTIONS["d"],
    **{name: DIRECTIONS[name] for name in "lr"},
    **{a + b: (DIRECTIONS[a][0], DIRECTIONS[b][1]) for a in "ud" for b in "rl"},
}
OPPOSITE = ({"forward", "back"}, {"left", "right"})
FRAMES = 65


@dataclass(frozen=True)
class Script:
    """One action that is held for a whole clip: its name, the keys that are down, the signs of (pitch, yaw)."""

    name: str
    keys: tuple[str, ...] = ()
    camera: tuple[int, int] = (0, 0)

    def controls(self, frames: int) -> Controls:
        """The actions of a clip."""
        return held(self.keys, self.camera, frames)


def gameworld_scripts() -> tuple[Script, ...]:
    """The 76 actions."""
    single = [Script(key, (key,)) for key in KEYS]
    pairs = [Script(f"{a}_{b}", (a, b)) for a, b in itertools.combinations(KEYS, 2) if {a, b} not in OPPOSITE]
    both = [Script(f"{key}_camera_{name}", (key,), signs) for key in KEYS for name, signs in CAMERAS.items()]
    cameras = [Script(f"camera_{name}", (), signs) for name, signs in CAMERAS.items()]
    return (*single, *pairs, *both, *cameras, Script("none"))


SCRIPTS = gameworld_scripts()
Side = Callable[[Script, int], dict[str, Any]]
Read = Callable[[Mapping[str, Any], int], Controls]


@dataclass(frozen=True)
class Layout:
    """video: path of a clip, from the index and name of its script. frames: of a clip; None: any, if others made it.

    side: name of the file beside a clip, or "". write: script and frames -> its content; read: content and frames of
    the clip -> actions of each frame.
    """

    video: str
    frames: int | None = None
    side: str = ""
    write: Side | None = None
    read: Read | None = None

    def file(self, index: int, script: Script) -> str:
        """The path of a clip in the folder."""
        return self.video.format(index=index, name=script.name)

    @property
    def pattern(self) -> str:
        """The glob of all clips."""
        return re.sub(r"\{\w+\}", "*", self.video)


def script_of(file: str) -> Script:
    """The script that the name of a clip or of its folder tells. Raises VidarError if it tells none."""
    path = PurePosixPath(file)
    name = path.parts[0] if len(path.parts) > 1 else path.stem
    found = next((one for one in SCRIPTS if re.fullmatch(rf"\d+_{one.name}", name)), None)
    if found is None:
        raise VidarError(f"{file}: {name!r} is not INDEX_ACTION with an action such as {SCRIPTS[6].name}")
    return found


def _write_mind(script: Script, frames: int) -> dict[str, Any]:
    def code(first: bool, second: bool) -> int:
        return int(first) if first != second and first else 2 * int(second and not first)

    (pitch, yaw), keys = script.camera, script.keys
    row = {
        "ws": code("forward" in keys, "back" in keys),
        "ad": code("left" in keys, "right" in keys),
        "ud": code(pitch < 0, pitch > 0),
        "lr": code(yaw < 0, yaw > 0),
    }
    return {"mark_time": 0, "total_time": frames, "data": [{"time": t, **row} for t in range(frames)]}


def _read_mind(content: Mapping[str, Any], frames: int) -> Controls:
    """The last `frames` rows: a clip may hold the generated part alone."""
    rows = [{"ws": 0, "ad": 0, "ud": 0, "lr": 0} | one for one in cast(Sequence[dict[str, Any]], content["data"])]
    if content["total_time"] != len(rows):
        raise VidarError(f"total_time is {content['total_time']}, but there are {len(rows)} rows of data")
    start = int(content["mark_time"])
    if frames not in (len(rows), len(rows) - start):
        raise VidarError(f"{frames} frames, but data has {len(rows)} rows, {len(rows) - start} from mark_time on")
    table = np.array([[int(row[name]) for name in ("ws", "ad", "ud", "lr")] for row in rows[len(rows) - frames :]])
    if not np.isin(table, (0, 1, 2)).all():
        raise VidarError("data has values other than 0, 1 and 2")
    keys = np.zeros((frames, len(KEYS)), bool)
    for column, value, key in ((0, 1, "forward"), (0, 2, "back"), (1, 1, "left"), (1, 2, "right")):
        keys[:, KEYS.index(key)] = table[:, column] == value
    return Controls(keys, MOUSE * np.array([0.0, -1.0, 1.0])[table[:, 2:]])


def _write_wbench(script: Script, frames: int) -> dict[str, Any]:
    turn = {"video": "turn_0.mp4", "frames": frames, "keys": list(script.keys), "camera": list(script.camera)}
    return {"turns": [turn]}


def _read_wbench(content: Mapping[str, Any], frames: int) -> Controls:
    turn = cast(Mapping[str, Any], content["turns"][0])
    keys, (pitch, yaw) = [str(key) for key in turn["keys"]], turn["camera"]
    if turn["frames"] != frames:
        raise VidarError(f"{frames} frames, but turns.json says {turn['frames']}")
    if unknown := [key for key in keys if key not in KEYS]:
        raise VidarError(f"turns.json has the key {unknown[0]!r}; there are {', '.join(KEYS)}")
    return held(keys, (int(pitch), int(yaw)), frames)


LAYOUTS: Mapping[str, Layout] = {
    "gameworld": Layout("{index}_{name}.mp4", FRAMES),
    "mind": Layout("{index}_{name}/video.mp4", None, "action.json", _write_mind, _read_mind),
    "wbench": Layout("{index}_{name}/turn_0.mp4", None, "turns.json", _write_wbench, _read_wbench),
}
