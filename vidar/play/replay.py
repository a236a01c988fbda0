"""Replays the file of a played dream as an mp4, with a JSON side file that says how it was made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vidar
from vidar.config import to_dict
from vidar.data.atomic import replacing
from vidar.data.outputs import check_outputs
from vidar.data.video import write_video
from vidar.model.load import load, shipped
from vidar.model.model import VideoModel
from vidar.model.start_hashes import START
from vidar.play.recording import Recording, read, replay
from vidar.types import UsageError, VidarError

MOST_THREADS = 1024  # of a file that is read
REPEATED = ("world", "weights", "seed", "row", "capacity", "threads", "eager", "memory")  # in the side file


def write_replay(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compute a recording's frames again, with as many threads as it was played with; returns the side file's content.

    model: a shipped name or a folder; None: the shipped world that the file names. frames_sha256 is the hash of the
    frames uint8 [T, H, W, 3] before the video was encoded. Raises UsageError or VidarError.
    """
    video = Path(out)
    side = video.with_suffix(".json")
    check_outputs([video], [file, None if model is None else Path(model) / START])
    if video.suffix != ".mp4":
        raise UsageError(f"{video}: a replay is written as .mp4")
    check_outputs([side])
    recording = read(file)
    told, threads = recording.told, recording.told["threads"]
    if not len(recording.actions):
        raise VidarError(f"{file}: no frame was played")
    if not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise VidarError(f"{file}: the number of threads is out of range; it is not a recording of vidar play")
    if model is None and told["world"] not in shipped():
        raise UsageError(f"{file}: was played in {told['world']!r}, which is no shipped world; give --model FOLDER")
    world = load(model or told["world"], device)
    _check_context(file, world, recording)
    before, digest = torch.get_num_threads(), hashlib.sha256()
    torch.set_num_threads(threads)
    try:
        write_video(video, _frames(world, recording, digest.update, progress), world.config.fps)
    finally:
        torch.set_num_threads(before)
    made = {
        "video": str(video),
        "recording": str(file),
        "frames": len(recording.actions),
        "fps": world.config.fps,
        "frames_sha256": digest.hexdigest(),
        **{name: told[name] for name in REPEATED},
        "device": device,
        "versions": {"vidar": vidar.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "config": to_dict(world.config),
    }
    with replacing(side) as temporary:
        temporary.write_text(json.dumps(made, indent=2) + "\n")
    return made


def _check_context(file: str | os.PathLike[str], world: VideoModel, recording: Recording) -> None:
    start = recording.start
    frames = world.context_frames(start.frames)
    if start.actions is not None:
        rows = world.config.spec.validate_actions(start.actions, f"{file}: context_actions")
        if len(rows) != len(frames):
            raise VidarError(f"{file}: {len(frames)} frames of context but {len(rows)} rows of actions")


def _frames(
    world: VideoModel,
    recording: Recording,
    note: Callable[[bytes], None],
    progress: Callable[[int, int], None] | None,
) -> Iterator[np.ndarray]:
    for number, frame in enumerate(replay(world, recording), 1):
        note(np.ascontiguousarray(frame).tobytes())
        yield frame
        if progress is not None:
            progress(number, len(recording.actions))
