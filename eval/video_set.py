"""The videos of one side of a comparison: a folder of files, or recorded episodes. Whatever is left out has a name."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vidar.data.decoding import open_video, video_stream
from vidar.data.index import is_data_set, load_index
from vidar.data.reader import Sample, decode_frames, read_side, read_video_bytes, samples
from vidar.data.recordings import VIDEOS
from vidar.data.video import read_pieces, video_info
from vidar.types import UsageError, VidarError

SUFFIXES = (*VIDEOS, ".gif", ".npy")
SAME_RATE = 0.01  # relative difference of frame rates that are called equal; a GIF counts in hundredths of a second
FULL_RANGE = 2  # ITU-T H.273: luma from 0 to 255
Size = tuple[int, int]  # height, width
Tick = Callable[[int, int], None]  # (done, all)


class Frames(Protocol):
    """Reads clips of one video."""

    def clips(self, places: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """places: frame numbers of each clip, increasing within and between clips -> uint8 [F, H, W, 3] each."""
        ...


@dataclass(frozen=True)
class Video:
    """One video. content: hash of its bytes; fps None: not known (arrays); full_range: of its luma, as stored."""

    name: str
    content: str
    frames: int
    size: Size
    fps: float | None
    reader: Frames
    full_range: bool = False


@dataclass(frozen=True)
class VideoSet:
    """The videos of a side, all of one size and frame rate.

    left_out: (name, reason). others: how many files of each suffix are no videos. split: of recorded episodes, else
    "". fps None: no video has one.
    """

    path: str
    split: str
    videos: tuple[Video, ...]
    left_out: tuple[tuple[str, str], ...]
    size: Size
    fps: float | None
    others: Mapping[str, int] = field(default_factory=dict[str, int])

    def facts(self) -> dict[str, Any]:
        """What a report says of it."""
        full = sum(video.full_range for video in self.videos)
        return {
            "path": self.path,
            "split": self.split or None,
            "videos": len(self.videos),
            "frames": sum(video.frames for video in self.videos),
            "size": f"{self.size[1]}x{self.size[0]}",
            "fps": self.fps,
            "of_full_range": full,
            "other_files": dict(self.others),
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }


@dataclass(frozen=True)
class File:
    """A video file, decoded in one pass."""

    path: Path

    def clips(self, places: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Frames`."""
        yield from read_pieces(self.path, len(places[0]), keep=np.concatenate(list(places)))


@dataclass(frozen=True)
class Row:
    """One video of an array file: uint8 [T, H, W, 3], on disk."""

    stored: np.ndarray = field(repr=False)

    def clips(self, places: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Frames`."""
        for place in places:
            yield np.asarray(self.stored[place])


@dataclass(frozen=True)
class Recorded:
    """A recorded episode."""

    sample: Sample
    side: dict[str, Any] = field(repr=False)

    def clips(self, places: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Frames`."""
        data = read_video_bytes(self.sample, self.side)
        for place in places:
            first, last = int(place[0]), int(place[-1])
            yield decode_frames(self.sample, self.side, data, first, last - first + 1)[place - first]


def find_videos(path: str | os.PathLike[str], split: str | None = None, tick: Tick | None = None) -> VideoSet:
    """The videos of a folder of files (.mp4, .webm, .mkv, .gif, .npy, ...) or of a data set of shards.

    split: of a data set (None: heldout if it has that, else its first). Every file is decoded once to count its frames.
    A file that cannot be read, that repeats another one, or whose size or frame rate is not that of most files is left
    out by name. Raises VidarError if nothing is left, UsageError for a split of a folder of files.
    """
    folder = Path(path)
    if is_data_set(folder):
        return _recorded(folder, split)
    if not folder.is_dir():
        raise VidarError(f"{folder}: no such folder; give a folder of videos or of recorded shards")
    if split is not None:
        raise UsageError(f"{folder}: holds video files, which have no splits; leave out the split {split!r}")
    files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    known = [file for file in files if file.suffix.lower() in SUFFIXES]
    others = Counter(file.suffix.lower() or file.name for file in files if file not in known)
    others["folders"] = sum(entry.is_dir() for entry in folder.iterdir())
    found, left_out = list[Video](), list[tuple[str, str]]()
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        decoded = pool.map(_scan, [file for file in known if file.suffix.lower() != ".npy"])
        for done, file in enumerate(
            known, 1
        ):  # numpy parses the header of an array, which Python 3.11 cannot in threads
            videos, problem = _scan(file) if file.suffix.lower() == ".npy" else next(decoded)
            found += videos
            left_out += problem
            if tick is not None:
                tick(done, len(known))
    return replace(_of_one_kind(str(folder), "", found, left_out), others=+others)


def without_short(videos: VideoSet, frames: int) -> VideoSet:
    """The same without videos of fewer than `frames` frames. Raises VidarError if none is left."""
    short = [(v.name, f"too short: {v.frames} of {frames} frames") for v in videos.videos if v.frames < frames]
    kept = tuple(video for video in videos.videos if video.frames >= frames)
    if not kept:
        longest = max(video.frames for video in videos.videos)
        raise VidarError(f"{videos.path}: no video has the {frames} frames of a clip, the longest has {longest}")
    return replace(videos, videos=kept, left_out=(*videos.left_out, *short))


def _recorded(folder: Path, split: str | None) -> VideoSet:
    index = load_index(folder)
    names = index.splits()
    split = split or ("heldout" if "heldout" in names else names[0] if names else "heldout")
    found: list[Video] = []
    for sample in samples(folder, index, split):
        side = read_side(sample)
        size, fps = (int(side["height"]), int(side["width"])), float(side["fps"])
        found.append(Video(sample.key, side["sha256_mp4"], side["n_frames"], size, fps, Recorded(sample, side)))
    return _of_one_kind(str(folder), split, found, [])


def _scan(file: Path) -> tuple[list[Video], list[tuple[str, str]]]:
    """The videos in a file, and why it holds none: one of both is empty."""
    try:
        return (_rows(file) if file.suffix.lower() == ".npy" else [_file(file)]), []
    except VidarError as error:
        return [], [(file.name, f"unreadable: {str(error).removeprefix(f'{file}: ')}")]


def _file(file: Path) -> Video:
    info = video_info(file, str(file))
    with open_video(file, str(file)) as container:
        full = int(video_stream(container, str(file)).codec_context.color_range) == FULL_RANGE
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    return Video(file.name, content, info.frames, (info.height, info.width), info.rate, File(file), full)


def _rows(file: Path) -> list[Video]:
    try:
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VidarError(f"{file}: is not an array ({str(error).splitlines()[0]})") from None
    if stored.dtype != np.uint8 or stored.ndim not in (4, 5) or stored.shape[-1] != 3 or 0 in stored.shape:
        raise VidarError(f"{file}: is {stored.dtype} {list(stored.shape)}, expected uint8 [N, T, H, W, 3]")
    found: list[Video] = []
    for number in [None] if stored.ndim == 4 else range(len(stored)):
        frames = stored if number is None else stored[number]
        content = hashlib.sha256(f"{frames.shape}".encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()
        name = file.name if number is None else f"{file.name}[{number}]"
        found.append(Video(name, content, len(frames), (frames.shape[1], frames.shape[2]), None, Row(frames)))
    return found


def _of_one_kind(path: str, split: str, found: Sequence[Video], left_out: Sequence[tuple[str, str]]) -> VideoSet:
    """Without repeated files, and without those whose size or frame rate differs from that of most of them."""
    out, first = list(left_out), dict[str, str]()
    single: list[Video] = []
    for video in found:
        if video.content in first:
            out.append((video.name, f"the same content as {first[video.content]}"))
        else:
            first[video.content] = video.name
            single.append(video)
    if not single:
        raise VidarError(
            f"{path}: no video can be read here"
            + (f"; {out[0][0]}: {out[0][1]}" if out else "; subfolders are not searched")
        )
    size = Counter(video.size for video in single).most_common(1)[0][0]
    rates = sorted(video.fps for video in single if video.fps is not None and video.size == size)
    fps = rates[len(rates) // 2] if rates else None  # of more than half of the videos, if they agree
    kept: list[Video] = []
    for video in single:
        if video.size != size:
            out.append((video.name, f"another size: {_shown(video.size)}, most have {_shown(size)}"))
        elif not same_rate(video.fps, fps):
            out.append((video.name, f"another frame rate: {video.fps:.4g}, most have {fps:.4g}"))
        else:
            kept.append(video)
    return VideoSet(path, split, tuple(kept), tuple(out), size, fps)


def same_rate(a: float | None, b: float | None) -> bool:
    """Whether two frame rates are equal; one that is not known is equal to any."""
    return a is None or b is None or abs(a - b) <= SAME_RATE * max(a, b)


def _shown(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
