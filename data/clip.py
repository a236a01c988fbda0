"""One episode of a data set, or a part of it, as a video with its actions: for `--context`, `--actions`, `convert`."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from vidar.data.atomic import check_output, replacing
from vidar.data.index import load_index
from vidar.data.outputs import check_outputs
from vidar.data.reader import read_episode
from vidar.data.video import write_video
from vidar.types import UsageError, VidarError


def write_clip(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    episode: int | str = 0,
    split: str = "",
    start: int = 0,
    frames: int | None = None,
) -> dict[str, Any]:
    """Write frames start .. start+frames-1 (None: to the end) of an episode to x.mp4; returns what was written.

    episode: number or key. split: "" means the first split. x.npy gets the T-1 actions between the T frames, float32
    [T-1, A]; x.csv gets one row per frame, of which row 0 is at rest. Both are left out if the data has no actions.
    Raises VidarError for an unknown episode or frame, for unsuitable data, or if x.npy or x.csv exists already, and
    UsageError for another kind of file.
    """
    video = Path(out)
    if video.suffix != ".mp4":
        raise UsageError(f"{video}: a clip is written as .mp4")
    index = load_index(path)
    files = [video, *(video.with_suffix(suffix) for suffix in (".npy", ".csv") if index.spec.width)]
    check_outputs([video])
    for file in files[1:]:
        check_output(file)
        if file.exists():
            raise VidarError(
                f"{file}: exists already, and the actions of the clip would replace it; give another --out"
            )
    found = read_episode(path, split or index.splits()[0], episode, extras=())
    count = len(found.frames) - start if frames is None else frames
    if start + count > len(found.frames) or count < 1:
        asked = f"{start} .. {start + count - 1}" if frames is not None else f"from {start} on"
        raise VidarError(f"{path}: episode {found.name} has frames 0 .. {len(found.frames) - 1}, not {asked}")
    actions = found.actions[start : start + count].copy()
    actions[0] = found.spec.noop()
    write_video(video, found.frames[start : start + count], found.fps)
    if found.spec.width:
        with replacing(files[1]) as temporary, temporary.open("wb") as stream:
            np.save(stream, actions[1:])
        with replacing(files[2]) as temporary, temporary.open("w", newline="") as stream:
            rows = ([f"{value:.9g}" for value in row] for row in actions)
            csv.writer(stream).writerows([found.spec.names, *rows])
    return {
        "episode": found.name,
        "files": [str(file) for file in files],
        "frames": count,
        "fps": found.fps,
        "caption": found.caption,
    }
