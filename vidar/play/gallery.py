"""Where dreams may begin: clips of context, and the small pictures by which a player chooses one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from vidar.model.model import VideoModel
from vidar.play.messages import to_jpeg
from vidar.types import UsageError

STARTS = "starts"  # the folder of further clips in a world's folder
MOST = 24  # clips of a folder: each is kept in memory
CUTS = 8  # of the world's own clip
WIDEST = 160  # pixels of a small picture


def own_clips(world: VideoModel) -> list[np.ndarray]:
    """The end of the world's own clip; where that is long enough, up to CUTS - 1 earlier places of it; MODEL/starts.

    uint8 [context, H, W, 3] each, or less where a clip is shorter. Raises UsageError where the world has none.
    """
    frames, context = world.context_frames(None).numpy(), world.config.context
    count = min(CUTS, max(1, len(frames) // context))
    ends = np.linspace(len(frames), context, count).round().astype(int) if count > 1 else [len(frames)]
    clips = [frames[max(0, end - context) : end].copy() for end in ends]
    more = None if world.start is None else world.start.parent / STARTS
    return clips + (folder_clips(world, more) if more is not None and more.is_dir() else [])


def folder_clips(world: VideoModel, folder: str | os.PathLike[str]) -> list[np.ndarray]:
    """The last `context` frames of every .mp4 of a folder, by name.

    Raises UsageError where there is none, or too many, and VidarError naming a file that does not fit the world.
    """
    videos = sorted(Path(folder).glob("*.mp4"))
    if not videos or len(videos) > MOST:
        found = f"{len(videos)} .mp4 files" if videos else "no .mp4 file"
        raise UsageError(f"{folder}: {found} in it; --starts wants a folder with 1 to {MOST}")
    return [world.context_frames(video)[-world.config.context :].numpy().copy() for video in videos]


def small_picture(clip: np.ndarray) -> bytes:
    """The last frame of a clip, at most WIDEST pixels wide, as JPEG."""
    frame = clip[-1]
    height, width = frame.shape[:2]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    return to_jpeg(frame)
