"""Where dreams may begin: clips of context, and the small pictures by which a player chooses one.

A clip of a folder or data set is read when a player chooses it, and its picture is made when a player is shown it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vidar.data.index import is_data_set, load_index
from vidar.data.video import read_video
from vidar.model.context import check_size
from vidar.model.model import VideoModel
from vidar.model.start_hashes import STARTS
from vidar.model.starts import episode_clip, start_samples
from vidar.play.messages import to_jpeg
from vidar.types import UsageError, VidarError

MOST = 1000  # starts from a folder or data set
CHECKED = 24  # files of a folder whose size is checked before play begins
CUTS = 8  # starts from the world's own clip
KEPT = 8  # clips that stay in memory
WIDEST = 160  # pixels of a small picture
SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")

Clip = np.ndarray | Callable[[], np.ndarray]  # uint8 [T, H, W, 3], or a function that reads it


class Gallery:
    """Starts to choose from, by number. say: prints why a clip cannot be shown."""

    def __init__(self, clips: Sequence[Clip], say: Callable[[str], None] = lambda _: None) -> None:
        self._clips, self._say, self._lock = tuple(clips), say, threading.Lock()
        self._read: dict[int, np.ndarray] = {}
        self._pictures: dict[int, bytes | None] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> np.ndarray:
        """The frames of a clip. Raises VidarError if they cannot be read or do not fit the world."""
        clip = self._clips[number]
        if isinstance(clip, np.ndarray):
            return clip
        with self._lock:
            frames = self._read.pop(number, None)
        frames = clip() if frames is None else frames
        with self._lock:
            self._read[number] = frames  # the newest is last
            while len(self._read) > KEPT:
                del self._read[next(iter(self._read))]
        return frames

    def picture(self, number: int) -> bytes | None:
        """The small picture of a clip, see `small_picture`; None if the clip cannot be read."""
        if number not in self._pictures:
            try:
                self._pictures[number] = small_picture(self[number])
            except VidarError as error:
                self._pictures[number] = None
                self._say(f"not offered as a start: {error}")
        return self._pictures[number]


def own_clips(world: VideoModel) -> list[Clip]:
    """The end of the world's own clip; if that is long enough, up to CUTS - 1 earlier places of it; MODEL/starts.

    uint8 [context, H, W, 3] each, or fewer frames if a clip is shorter. Raises UsageError if the world has none.
    """
    frames, context = world.context_frames(None).numpy(), world.config.context
    count = min(CUTS, max(1, len(frames) // context))
    ends = np.linspace(len(frames), context, count).round().astype(int) if count > 1 else [len(frames)]
    clips: list[Clip] = [frames[max(0, end - context) : end].copy() for end in ends]
    more = None if world.start is None else world.start.parent / STARTS
    return clips + (folder_clips(world, more) if more is not None and more.is_dir() else [])


def folder_clips(
    world: VideoModel, folder: str | os.PathLike[str], say: Callable[[str], None] = lambda _: None
) -> list[Clip]:
    """The last `context` frames of every video of a folder, by name; or of a data set, a part of every episode.

    say: prints that there are more than MOST, of which MOST are taken. Raises UsageError if there is none, VidarError
    naming the first file that does not fit the world, of those that are checked now (CHECKED, and a whole data set).
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"{place}: no such folder; --starts needs a folder of videos or a data set")
    if is_data_set(place):
        index = load_index(place)
        check_size(world.config, index.height, index.width, str(place))
        found = [partial(episode_clip, sample, world.config.context) for sample in start_samples(place)]
    else:
        videos = sorted(file for file in place.iterdir() if _is_video(file))
        if not videos:
            raise UsageError(f"{place}: no video in it; --starts needs a folder of videos or a data set")
        for video in videos[:CHECKED]:
            first = read_video(video, 0, 1)[0]
            check_size(world.config, first.shape[1], first.shape[2], str(video))
        found = [partial(_last_frames, world, video) for video in videos]
    if len(found) > MOST:
        say(f"{place}: {len(found)} clips; {MOST} of them are offered as starts")
        found = [found[n * len(found) // MOST] for n in range(MOST)]
    return [*found]


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _last_frames(world: VideoModel, video: Path) -> np.ndarray:
    return world.context_frames(video)[-world.config.context :].numpy().copy()


def small_picture(clip: np.ndarray) -> bytes:
    """The last frame of a clip, at most WIDEST pixels wide, as JPEG."""
    frame = clip[-1]
    height, width = frame.shape[:2]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    return to_jpeg(frame)
