"""Shards -> batches of clips.

`batch(i)` is a pure function of (data, config, rank, world, i); resuming needs one integer.

All windows (episode, start) of a split are shuffled once per epoch, and the epochs follow one another without a gap.
Rank r of W takes the r-th B of every W * B windows:

  position   0 .. B-1 | B .. 2B-1 | 2B .. 3B-1 | ...      epoch = position // windows
  world 2    rank 0   | rank 1    | rank 0     |          number of a sample = its position
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.config import Config
from vidar.data.index import load_index
from vidar.data.reader import (
    DataInfo,
    Sample,
    data_info,
    decode_frames,
    episodes,
    read_actions,
    read_episode,
    read_extra,
    read_side,
    read_video_bytes,
    samples,
    say_short,
)
from vidar.rng import Rng
from vidar.types import Segment, UsageError, VidarError

__all__ = ["ClipBatch", "Clips", "ClipsConfig", "DataInfo", "data_info", "episodes", "read_episode"]


@dataclass(frozen=True)
class ClipBatch(Segment):
    """A Segment with the requested extras, each [B, T, ...] in its stored dtype."""

    extras: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


class ClipsConfig(Config):
    """Clips of `clip_frames` frames. stride: frames between the starts of neighbouring windows.

    extras: ground truth to include. cache_bytes: memory for decoded episodes; episodes beyond it are decoded clip by
    clip. prefetch: number of batches that a thread prepares ahead (0: none).
    """

    path: str
    split: str = "train"
    clip_frames: int
    batch: int
    stride: int = 1
    seed: int = 0
    extras: tuple[str, ...] = ()
    cache_bytes: int = 2 << 30
    prefetch: int = 2

    def build(self, rank: int = 0, world: int = 1) -> Clips:
        """Raises UsageError for numbers out of range, and VidarError for unsuitable data."""
        for name, least in (("clip_frames", 1), ("batch", 1), ("stride", 1), ("cache_bytes", 0), ("prefetch", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"ClipsConfig.{name} is {getattr(self, name)}, must be at least {least}")
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} is not one of {world}")
        return Clips(self, rank, world)


@dataclass(frozen=True)
class _Source:
    """An episode in the loader.

    frames [T, H, W, 3] if it is cached; otherwise None, and `video` is decoded on demand.
    """

    frames: np.ndarray | None
    actions: np.ndarray
    extras: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Clip:
    """The decoded frames of an episode with everything that belongs to them."""

    frames: np.ndarray
    actions: np.ndarray
    extras: Mapping[str, np.ndarray]


class Clips:
    """An endless stream of ClipBatch. skipped: number of episodes shorter than a clip; windows: clips per epoch."""

    def __init__(self, config: ClipsConfig, rank: int = 0, world: int = 1):
        self.config, self.rank, self.world = config, rank, world
        self.index = load_index(config.path)
        found = samples(config.path, self.index, config.split)
        sides = [read_side(sample) for sample in found]
        lengths = np.array([side["n_frames"] for side in sides])
        long_enough = np.flatnonzero(lengths >= config.clip_frames)
        self.skipped = len(found) - len(long_enough)
        if not len(long_enough):
            raise VidarError(
                f"{config.path}: no episode of split {config.split!r} is long enough: the longest has "
                f"{lengths.max()} frames, clip_frames is {config.clip_frames}"
            )
        if rank == 0:
            say_short(config.path, config.split, self.skipped, len(found), config.clip_frames, "data.clip_frames")
        self.episodes: list[tuple[Sample, dict[str, Any]]] = [(found[i], sides[i]) for i in long_enough]
        counts = (lengths[long_enough] - config.clip_frames) // config.stride + 1
        self._first = np.concatenate([[0], np.cumsum(counts)])  # number of the first window of each episode
        self.windows = int(self._first[-1])
        self._lock = threading.Lock()
        self._sources: dict[int, _Source] = {}
        self._cached = 0
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    @property
    def spec(self) -> Any:
        """The ActionSpec of the data."""
        return self.index.spec

    def batch(self, index: int) -> ClipBatch:
        """Batch `index` of this rank, from 0. Raises VidarError naming a damaged sample."""
        config = self.config
        first = (index * self.world + self.rank) * config.batch
        with self._lock:
            picked = [self._window(position) for position in range(first, first + config.batch)]
            clips = [self._clip(episode, start) for episode, start in picked]
        unknown = torch.zeros(config.batch, config.clip_frames, dtype=torch.bool)
        unknown[:, 0] = True
        return ClipBatch(
            video=_stack([clip.frames for clip in clips]),
            actions=_stack([clip.actions for clip in clips]),
            unknown=unknown,
            number=torch.arange(first, first + config.batch),
            names=tuple(f"{self.episodes[episode][0].name}@{start}" for episode, start in picked),
            extras={name: _stack([clip.extras[name] for clip in clips]) for name in config.extras},
        )

    def stream(self, start: int = 0) -> Iterator[ClipBatch]:
        """Batches start, start + 1, ... without end, prepared ahead by one thread."""
        if self.config.prefetch == 0:
            while True:
                yield self.batch(start)
                start += 1
        else:
            yield from _ahead(self.batch, start, self.config.prefetch)

    def __iter__(self) -> Iterator[ClipBatch]:
        return self.stream(0)

    def _window(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.windows)
        if self._order[0] != epoch:
            self._order = (epoch, Rng(self.config.seed).permutation("shuffle", self.windows, unit=epoch).numpy())
        window = int(self._order[1][place])
        episode = int(np.searchsorted(self._first, window, side="right")) - 1
        return episode, (window - int(self._first[episode])) * self.config.stride

    def _clip(self, episode: int, start: int) -> _Clip:
        sample, side = self.episodes[episode]
        count = self.config.clip_frames
        source = self._source(episode)
        if source.frames is not None:
            frames = source.frames[start : start + count]
        else:
            frames = decode_frames(sample, side, sample.read("mp4"), start, count)
        actions = source.actions[start : start + count].copy()
        actions[0] = 0  # the first action is unknown
        return _Clip(frames, actions, {n: array[start : start + count] for n, array in source.extras.items()})

    def _source(self, episode: int) -> _Source:
        """An episode, whose hashes are verified on first use.

        Choice: the first episodes that fit the budget stay, and nothing is evicted. In a uniformly random order this
        hits as often as any other policy, and it never decodes a whole episode for one clip.
        """
        if episode not in self._sources:
            sample, side = self.episodes[episode]
            video = read_video_bytes(sample, side)
            size = side["n_frames"] * side["height"] * side["width"] * 3
            fits = self._cached + size <= self.config.cache_bytes
            self._sources[episode] = _Source(
                frames=decode_frames(sample, side, video) if fits else None,
                actions=read_actions(sample, side, self.index.spec.width),
                extras={name: read_extra(sample, side, name) for name in self.config.extras},
            )
            self._cached += size if fits else 0
        return self._sources[episode]


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _ahead(batch: Callable[[int], ClipBatch], start: int, depth: int) -> Iterator[ClipBatch]:
    """batch(start), batch(start + 1), ... computed by a thread up to `depth` ahead.

    A failure is raised when its turn comes.
    """
    ready: queue.Queue[ClipBatch | BaseException] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: ClipBatch | BaseException) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        index = start
        while not stop.is_set():
            try:
                put(batch(index))
            except BaseException as error:
                return put(error)
            index += 1

    thread = threading.Thread(target=work, daemon=True, name="vidar-clips")
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=5)
