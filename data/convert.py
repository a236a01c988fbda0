"""Convert your own recordings to shards: a folder of NAME.mp4 files, each with a NAME.csv."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vidar.actions import ActionSpec
from vidar.data.episode import Episode
from vidar.data.outputs import check_apart
from vidar.data.shards import ShardWriter, checked_actions
from vidar.data.video import Timing, read_video, video_timing
from vidar.types import VidarError

PIECE = 2048  # frames in memory; a longer video becomes several episodes


def convert_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    spec: ActionSpec,
    fps: float,
    split: str = "train",
    size: tuple[int, int] | None = None,
) -> int:
    """Write the videos of a folder as shards; returns the number of episodes.

    size: (height, width) of the frames in pixels, None: unchanged. Frames are cropped to this aspect ratio, equally
    on both sides, and resized by averaging.

    NAME.csv has the action names as its header; row t is the action between frames t-1 and t. It has as many rows as
    frames (row 0 is ignored) or one less (row 0 is left out). Every file is checked before anything is written.
    Raises VidarError naming the file and row.
    """
    source = Path(folder)
    check_apart(out, source)
    if not source.is_dir():
        raise VidarError(f"{source}: no such folder of videos")
    videos = sorted(source.glob("*.mp4"))
    if not videos:
        raise VidarError(f"{source}: contains no .mp4 file")
    tables: list[tuple[Path, np.ndarray]] = []
    for video in videos:
        timing = _check_video(video, fps)
        table = video.with_suffix(".csv")
        rows = _aligned(_read_table(table, spec), timing.frames, table)
        tables.append((video, checked_actions(spec, rows, str(table))))
    count = 0
    with ShardWriter(out, split, spec) as writer:
        for video, actions in tables:
            for episode in _pieces(video, actions, spec, fps, size):
                writer.write(episode)
                count += 1
    return count


def _check_video(video: Path, fps: float) -> Timing:
    timing = video_timing(str(video), str(video))
    if timing.frames < 2 or (timing.declared and timing.declared != timing.frames):
        raise VidarError(f"{video}: {timing.frames} frames decode, the header says {timing.declared}; damaged?")
    if not timing.regular:
        raise VidarError(
            f"{video}: the frame rate is not constant; re-encode it with `ffmpeg -i IN -vf fps={fps:g} OUT`"
        )
    if abs(timing.fps - fps) > 0.01 * fps:
        raise VidarError(f"{video}: runs at {timing.fps:g} fps, not at {fps:g}; give its own rate or re-encode it")
    return timing


def _read_table(file: Path, spec: ActionSpec) -> np.ndarray:
    """Read an action table, float32 [rows, A] in the order of the spec."""
    if not file.is_file():
        raise VidarError(f"{file}: missing; every NAME.mp4 needs a NAME.csv with its actions")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise VidarError(f"{file}: cannot be read as CSV: {error}") from None
    header = [name.strip() for name in lines[0]] if lines else []
    if sorted(header) != sorted(spec.names):
        raise VidarError(f"{file}: header is {', '.join(header) or 'empty'}; expected {', '.join(spec.names)}")
    order = [header.index(name) for name in spec.names]
    rows = np.zeros((len(lines) - 1, spec.width), dtype=np.float32)
    for number, line in enumerate(lines[1:]):
        try:
            rows[number] = [float(line[column]) for column in order]
        except (ValueError, IndexError):
            raise VidarError(f"{file}: row {number} ({','.join(line)}) is not {spec.width} numbers") from None
    return rows


def _aligned(rows: np.ndarray, frames: int, table: Path) -> np.ndarray:
    if len(rows) not in (frames, frames - 1):
        expected = f"{frames} (row 0 is ignored) or {frames - 1}"
        raise VidarError(f"{table}: {len(rows)} rows for {frames} frames; expected {expected}")
    first = np.zeros((frames - len(rows), rows.shape[1]), dtype=np.float32)
    return np.concatenate([first, rows])


def resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [T, H, W, 3] -> uint8 [T, height, width, 3]: the largest centred box of that aspect ratio, averaged."""
    (height, width), (old_height, old_width) = size, frames.shape[1:3]
    if (old_height, old_width) == size:
        return frames
    scale = min(old_height / height, old_width / width)
    left, top = (old_width - scale * width) / 2, (old_height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    how = Image.Resampling.BOX if scale >= 1 else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), how, box=box)) for f in frames])


def _pieces(
    video: Path, actions: np.ndarray, spec: ActionSpec, fps: float, size: tuple[int, int] | None
) -> Iterator[Episode]:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", video.stem)[:70]
    starts = range(0, max(len(actions) - 1, 1), PIECE)  # a last piece of one frame would contain no action
    for start in starts:
        count = min(PIECE, len(actions) - start)
        frames, _ = read_video(video, start, count)
        frames = frames if size is None else resized(frames, size)
        piece = name if len(starts) == 1 else f"{name}_{start // PIECE:04d}"
        meta = {"start_frame": start, "file": video.name}
        yield Episode(frames, actions[start : start + count], fps, spec, piece, f"file:{video.stem}", meta=meta)
