"""Which clips of the videos are compared, and their features: streamed in batches, each kept on disk once computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vidar.data.atomic import make_folder, replacing
from vidar.data.resize import resized_crop
from vidar.eval.extractors import Extractor
from vidar.eval.video_set import Size, VideoSet
from vidar.types import UsageError

BATCH = 8  # clips in memory while the next ones are read
FOLDER = "features"  # of a report's folder: what an interrupted run finds again


@dataclass(frozen=True)
class Sampling:
    """Clips of `frames` frames, every `stride`-th one; `clips` of them (None: all that do not overlap).

    from_start: clips of generated videos begin at their first frame, as in the published protocols, else anywhere.
    """

    frames: int = 16
    stride: int = 1
    clips: int | None = None
    from_start: bool = False

    @property
    def span(self) -> int:
        """Frames of a video that a clip takes up."""
        return self.frames * self.stride


PROTOCOLS = {  # of StyleGAN-V, the implementation of record for FVD
    "fvd2048_16f": Sampling(16, 1, 2048, True),
    "fvd2048_128f": Sampling(128, 1, 2048, True),
    "fvd2048_128f_subsample8f": Sampling(16, 8, 2048, True),
}


class Clip(NamedTuple):
    """The number of its video, and its first frame."""

    video: int
    start: int


def choose(videos: VideoSet, sampling: Sampling, seed: int, from_start: bool = False) -> list[Clip]:
    """Clips that do not overlap, in the order of the videos; as many videos as possible, then further clips of each.

    Videos, and places in them, are drawn by Philox(seed); with from_start, clips follow one another from the first
    frame. Raises UsageError if there are fewer than `sampling.clips`.
    """
    random, span = np.random.Generator(np.random.Philox(seed)), sampling.span
    rounds: list[tuple[int, int, Clip]] = []
    for place, number in enumerate(random.permutation(len(videos.videos)).tolist()):
        frames = videos.videos[number].frames
        slots = frames // span
        first = 0 if from_start else int(random.integers(0, frames - slots * span + 1))
        order = np.arange(slots) if from_start else random.permutation(slots)
        rounds += [(k, place, Clip(number, first + span * int(slot))) for k, slot in enumerate(order)]
    count = len(rounds) if sampling.clips is None else sampling.clips
    if count > len(rounds):
        raise UsageError(
            f"{videos.path}: {len(rounds)} clips of {span} frames are there, {count} are asked for; give more videos, "
            "or fewer --clips"
        )
    return sorted(clip for _, _, clip in sorted(rounds)[:count])


def read(videos: VideoSet, clips: Sequence[Clip], sampling: Sampling, size: Size | None) -> Iterator[np.ndarray]:
    """The clips, in order: uint8 [F, H, W, 3] each. size: made by cropping and averaging (None: as stored)."""
    offsets = np.arange(sampling.frames) * sampling.stride
    for number, group in groupby(clips, key=lambda clip: clip.video):
        for clip in videos.videos[number].reader.clips([clip.start + offsets for clip in group]):
            yield clip if size is None else resized_crop(clip, size)


def features(
    videos: VideoSet,
    clips: Sequence[Clip],
    sampling: Sampling,
    size: Size | None,
    extractor: Extractor,
    folder: Path,
    tick: Callable[[int, int], None],
) -> np.ndarray:
    """float32 [N, d]. Batches that an earlier run left in `folder` are not computed again. tick(done, all): clips."""
    batches = [clips[start : start + BATCH] for start in range(0, len(clips), BATCH)]
    files = [folder / f"{_key(videos, batch, sampling, size, extractor)}.npy" for batch in batches]
    found = {file: stored for file, batch in zip(files, batches) if (stored := _stored(file, len(batch), extractor.dim))
             is not None}  # fmt: skip
    missing = [(file, batch) for file, batch in zip(files, batches) if file not in found]
    stream = read(videos, [clip for _, batch in missing for clip in batch], sampling, size)
    make_folder(folder)
    done = len(clips) - sum(len(batch) for _, batch in missing)
    tick(done, len(clips))
    with ThreadPoolExecutor(1) as reader:  # reads the next batch while the network looks at this one
        ahead = reader.submit(_take, stream, len(missing[0][1])) if missing else None
        for number, (file, batch) in enumerate(missing):
            assert ahead is not None
            video = ahead.result()
            if number + 1 < len(missing):
                ahead = reader.submit(_take, stream, len(missing[number + 1][1]))
            found[file] = extractor(video)
            with replacing(file) as temporary, temporary.open("wb") as out:
                np.save(out, found[file], allow_pickle=False)
            done += len(batch)
            tick(done, len(clips))
    return np.concatenate([found[file] for file in files])


def _take(stream: Iterator[np.ndarray], count: int) -> np.ndarray:
    """The next clips, uint8 [count, F, H, W, 3]."""
    return np.stack([next(stream) for _ in range(count)])


def _key(videos: VideoSet, batch: Sequence[Clip], sampling: Sampling, size: Size | None, extractor: Extractor) -> str:
    """A hash of everything that the features of a batch depend on."""
    told: list[Any] = [extractor.name, sampling.frames, sampling.stride, size]
    told += [(videos.videos[clip.video].content, clip.start) for clip in batch]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _stored(file: Path, count: int, columns: int) -> np.ndarray | None:
    """What an earlier run wrote, or None if it is missing or damaged."""
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.float32 and found.shape == (count, columns) else None
