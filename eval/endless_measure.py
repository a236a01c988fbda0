"""The measurements of the suite `endless`: a world dreams for thousands of frames and is compared with the real game.

A world dreams under the keys of real held-out games (endless_play.py), all rollouts in one batch. The criteria, with
the limits below: the share of frames in the later half whose brightness, contrast or sharpness is outside the 1-99 %
range of real frames; the amount of motion; whether the keys can be read back from the last frames; memory and the
addresses of the cache; the time of late frames compared with early ones. Survival is reported as well
(endless_figures.py).
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.cache.ring import RingState
from vidar.eval.endless_figures import Line, difference, looks, outside, ratio_of_means, survival
from vidar.eval.endless_play import Play, Tick
from vidar.eval.world_eval import Dreamer
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

# frames uint8 [E, T, H, W, 3], actions float32 [E, T, A], poses [E, T, 4] or None -> scores by name, with "mean"
Judge = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], Mapping[str, float]]

MOST_OUTSIDE = 0.10
MOTION = (0.5, 2.0)
LEAST_OBEYED = 0.7
MOST_GROWTH = 1.01  # resident memory at the last frame divided by that at frame SETTLED
FRAME_TIME = (0.9, 1.1)
SETTLED = 200
LEAST_FRAMES = 64
NO_JUDGE = "no inverse-dynamics network was given"


@dataclass(frozen=True)
class Memory:
    """Resident bytes at frame `settled` and at the last one, None if the system does not tell.

    moved: number of cache tensors whose address changed in between; None if the world has no visible cache.
    """

    settled: int
    first: int | None
    last: int | None
    moved: int | None


@dataclass(frozen=True)
class FrameTimes:
    """Milliseconds of single frames of one-row streams: young [n], frames 2W to 3W; old [m], the last 3W frames."""

    young: np.ndarray
    old: np.ndarray


@dataclass(frozen=True)
class EndlessScores:
    """The measurements of a dream of E rollouts over T frames; `real` is the recorded game under the same keys.

    dreamed    uint8 [E, T, H, W, 3]
    looks      brightness, contrast, sharpness -> model, real -> [E, T]
    motion     model, real -> mean absolute difference from the previous frame, grey levels [E, T]
    survival   model, real -> looks, still -> first frame of the first second that does not look like the game, long [E]
    obeyed     model, real -> scores of the inverse-dynamics model over the last frames; None without such a model
    """

    play: Play
    dreamed: np.ndarray
    looks: Mapping[str, Mapping[str, np.ndarray]]
    motion: Mapping[str, np.ndarray]
    survival: Mapping[str, Mapping[str, np.ndarray]]
    obeyed: Mapping[str, Mapping[str, float]] | None
    memory: Memory

    @property
    def real(self) -> np.ndarray:
        """The recorded frames that correspond to the dreamed ones, uint8 [E, T, H, W, 3]."""
        return self.play.frames[:, self.play.context :]


def measure(
    world: Dreamer, played: Play, seed: int = 0, judge: Judge | None = None, tick: Tick = lambda count: None
) -> EndlessScores:
    """Dream all recordings in one batch and compare. Rollout e has the noise of Rng(seed, e).

    tick counts dreamed frames. Raises UsageError for fewer than 64 frames, and VidarError if the dream ends early.
    """
    c = played.context
    frames = played.frames.shape[1] - c
    if c < 1 or frames < LEAST_FRAMES:
        raise UsageError(f"the endless suite needs context and at least {LEAST_FRAMES} frames, not {c} and {frames}")
    dreamed, memory = _dream(world, played, seed, tick)
    sides = {"model": dreamed, "real": played.frames[:, c:]}
    seen = {who: looks(videos) for who, videos in sides.items()}
    motion = {who: difference(videos, played.frames[:, c - 1]) for who, videos in sides.items()}
    second = max(1, round(played.fps))
    lasting = {who: survival(seen[who], motion[who], played.pressed[:, c:], played.real_range, second) for who in sides}
    tail = slice(-played.judged, None)
    poses = None if played.poses is None else played.poses[:, tail]
    obeyed = None
    if judge is not None:
        obeyed = {who: dict(judge(videos[:, tail], played.actions[:, tail], poses)) for who, videos in sides.items()}
    by_look = {name: {who: seen[who][name] for who in sides} for name in seen["model"]}
    return EndlessScores(played, dreamed, by_look, motion, lasting, obeyed, memory)


def frame_times(
    world: Dreamer, played: Play, window: int, seed: int = 0, repeats: int = 2, tick: Tick = lambda count: None
) -> FrameTimes:
    """Time one-row streams, an old and a young one alternately: the last 3W frames of one, the first 3W of the other.

    Choice: alternately while measuring, so that temporary slowdowns of the machine affect both; the old stream runs
    up to that point alone. Repeated `repeats` times. window: W, frames. tick counts frames: repeats * (T + 3W).
    Raises UsageError if T is below 6W.
    """
    frames = played.frames.shape[1] - played.context
    if frames < 6 * window:
        raise UsageError(f"{frames} frames are too few to compare frame times; at least {6 * window}")
    young, old = [], []
    for number in range(repeats):
        pair = [_stream(world, played, [(number + k) % len(played.frames)], seed) for k in (0, 1)]
        for _ in islice(pair[0], frames - 3 * window):
            tick(1)
        for step in range(3 * window):
            old.append(_timed(pair[0]))
            spent = _timed(pair[1])
            tick(2)
            if step >= 2 * window:
                young.append(spent)
    return FrameTimes(np.array(young), np.array(old))


def ends(causes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Survival of each rollout, for whatever cause: long [E]."""
    return np.min(list(causes.values()), axis=0)


def lines(scores: EndlessScores, times: FrameTimes | None = None, no_judge: str = NO_JUDGE) -> dict[str, Line]:
    """The acceptance criteria by name. no_judge: the reason if nothing reads the keys back."""
    c = scores.play.context
    late = slice(scores.dreamed.shape[1] // 2, None)
    result = {}
    for name, pair in scores.looks.items():
        share = {who: float(outside(v[:, late], scores.play.real_range.looks[name]).mean()) for who, v in pair.items()}
        what = f"{name} outside the real range, share of later frames"
        result[name] = Line(what, share["model"], most=MOST_OUTSIDE, real=share["real"])
    counted = ~scores.play.joins[:, c:]
    for name, where, what in (("motion", slice(None), "all frames"), ("motion_late", late, "later frames")):
        ratio = ratio_of_means(scores.motion["model"][:, where], scores.motion["real"][:, where], counted[:, where])
        result[name] = Line(f"frame difference relative to real play, {what}", ratio, *MOTION, real=1.0)
    what = f"action score relative to the real game, last {scores.play.judged} frames"
    if scores.obeyed is None:
        result["actions"] = Line(what, None, least=LEAST_OBEYED, why=no_judge)
    else:
        mine, theirs = (float(scores.obeyed[who].get("mean", math.nan)) for who in ("model", "real"))
        result["actions"] = Line(what, mine / theirs if theirs > 0 else math.nan, least=LEAST_OBEYED, real=1.0)
    memory = scores.memory
    growth = None if not memory.first or memory.last is None else memory.last / memory.first
    what = f"resident memory, last frame relative to frame {memory.settled}"
    result["memory"] = Line(what, growth, most=MOST_GROWTH, why="the system does not tell")
    result["cache"] = Line("cache tensors that moved", memory.moved, most=0, why="this world has no visible cache")
    return {**result, "frame_time": time_line(times)}


def beside(found: Mapping[str, Line], game: Mapping[str, Line]) -> dict[str, Line]:
    """The criteria of a dream together with those of the game elsewhere.

    Figures of the machine do not apply to a game.
    """
    machine = ("memory", "cache", "frame_time")
    return {
        name: line if name in machine else replace(line, elsewhere=game[name].figure) for name, line in found.items()
    }


def time_line(times: FrameTimes | None) -> Line:
    """Median of the old frames divided by that of the young ones."""
    ratio = None if times is None else float(np.median(times.old) / np.median(times.young))
    return Line("median frame time, last frames relative to early ones", ratio, *FRAME_TIME, why="not measured")


def _stream(world: Dreamer, played: Play, rows: list[int], seed: int) -> Iterator[Tensor]:
    """Frames uint8 [B, H, W, 3] of some recordings under their keys."""
    c = played.context
    table = torch.from_numpy(played.actions[rows])
    context = torch.from_numpy(np.ascontiguousarray(played.frames[rows, :c]))
    caused_by = (table[:, t] for t in range(c, table.shape[1]))
    return iter(world.frames(context, caused_by, table[:, :c], [Rng(seed, e) for e in rows]))


def _dream(world: Dreamer, played: Play, seed: int, tick: Tick) -> tuple[np.ndarray, Memory]:
    """All rollouts, uint8 [E, T, H, W, 3], and the memory measured meanwhile.

    The array is written once beforehand, so that its pages exist when memory is first read.
    """
    real = played.frames[:, played.context :]
    dreamed = np.empty(real.shape, np.uint8)
    dreamed.fill(0)
    count = real.shape[1]
    settled, first, where = min(SETTLED, count // 2), None, None
    with _cache_of(world) as addresses:
        stream = _stream(world, played, list(range(len(real))), seed)
        made = 0
        for made, frame in enumerate(islice(stream, count), 1):
            dreamed[:, made - 1] = frame.numpy()
            tick(len(frame))
            if made == settled:
                first, where = _resident(), addresses()
        last, then = _resident(), addresses()
    if made < count:
        raise VidarError(f"the dream ended after {made} of {count} frames")
    moved = None if where is None or then is None else sum(a != b for a, b in zip(where, then, strict=True))
    return dreamed, Memory(settled, first, last, moved)


@contextmanager
def _cache_of(world: Dreamer) -> Generator[Callable[[], list[int] | None]]:
    """Yields a function that returns the addresses of the keys and values read by the latest call.

    The function returns None without a cache.
    """
    if not isinstance(world, VideoModel):
        yield lambda: None
        return
    states: list[RingState] = []

    def remember(_: Any, inputs: tuple[Any, ...]) -> None:
        states[:] = [value for value in inputs if isinstance(value, RingState)]

    handle = world.net.register_forward_pre_hook(remember)
    try:
        yield lambda: [t.data_ptr() for s in states for r in s.rings.values() for t in (r.k, r.v)] or None
    finally:
        handle.remove()


def _resident() -> int | None:
    """Resident bytes of this process after garbage collection; None if the system does not tell."""
    gc.collect()
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else None


def _timed(stream: Iterator[Tensor]) -> float:
    """Milliseconds of the next frame."""
    start = time.perf_counter()
    next(stream)
    return (time.perf_counter() - start) * 1e3
