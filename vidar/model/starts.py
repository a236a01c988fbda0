"""The start clips of a world: START in its folder is the default context, the folder STARTS holds further ones."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from vidar.data.atomic import make_folder
from vidar.data.index import load_index
from vidar.data.reader import Sample, decode_frames, read_side, read_video_bytes, samples
from vidar.data.stored import HELD_OUT
from vidar.data.video import write_video
from vidar.model.load import load_config, read_index, write_index
from vidar.model.start_hashes import CLIPS, START, STARTS, check_starts, start_hashes
from vidar.types import VidarError

COUNT = 8  # start clips of a trained world, with the default one


def write_starts(folder: Path, data: str | os.PathLike[str]) -> None:
    """Write START and STARTS into the folder of a world: clips of the data set `data`, spread over its episodes.

    Raises VidarError if the data cannot be read or the clips cannot be written.
    """
    config = load_config(folder)
    found = start_samples(data)
    picked = [found[n * len(found) // COUNT] for n in range(COUNT)]
    clips = [episode_clip(one, config.context, (0.5 + n * 0.618) % 1) for n, one in enumerate(picked)]
    make_folder(folder / STARTS)
    for n, clip in enumerate(clips[1:], 1):
        write_video(folder / STARTS / f"{n:02d}.mp4", clip, config.fps)
    write_video(folder / START, clips[0], config.fps)


def starts_fault(folder: Path) -> str | None:
    """What is wrong with the start clips of the model in `folder`, if their hashes are known and it has an index."""
    try:
        index = read_index(folder)
    except VidarError:  # no model yet, or one that is replaced
        return None
    try:
        return check_starts(folder, index)
    except VidarError as error:
        return str(error)


def note_starts(folder: Path, before: Path) -> None:
    """Write the hashes of the start clips into the index of the model in `folder`.

    before: the folder that it will replace, whose clips stay if `folder` has none, and stay noted as they were. A model
    without clips gets no entry: clips may be added to it.
    Raises VidarError if the index is damaged or cannot be written.
    """
    kept = start_hashes(before)
    with suppress(VidarError):  # a damaged index is replaced
        kept = read_index(before).get(CLIPS, kept)
    kept = {name: sha256 for name, sha256 in kept.items() if not (folder / name.split("/")[0]).exists()}
    if noted := {**kept, **start_hashes(folder)}:
        write_index(folder, {**read_index(folder), CLIPS: noted})


def copy_starts(source: Path, folder: Path) -> None:
    """Copy the start clips of the world in `source`, as far as it has any, to the world in `folder`."""
    if (source / START).is_file():
        shutil.copyfile(source / START, folder / START)
    if (source / STARTS).is_dir():
        shutil.copytree(source / STARTS, folder / STARTS, dirs_exist_ok=True)


def start_samples(data: str | os.PathLike[str]) -> list[Sample]:
    """The episodes of a data set at which a dream may begin: those held out, or all if none are held out.

    Raises VidarError if there is no data set or it is damaged.
    """
    index = load_index(data)
    splits = (HELD_OUT,) if HELD_OUT in index.splits() else index.splits()
    return [sample for split in splits for sample in samples(data, index, split)]


def episode_clip(sample: Sample, frames: int, place: float = 0.5) -> np.ndarray:
    """uint8 [T, H, W, 3]: `frames` consecutive frames of an episode, or half of an episode that has few.

    place: 0: its first frames, 1: the last ones that have as many frames after them, because a dream that began where
    an episode ended would go on as no recording does. Raises VidarError naming the sample if it is damaged.
    """
    side = read_side(sample)
    count = max(1, min(frames, side["n_frames"] // 2))
    start = round(place * max(0, side["n_frames"] - 2 * count))
    return decode_frames(sample, side, read_video_bytes(sample, side), start, count)
