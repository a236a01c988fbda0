"""Evaluation of a world: rollouts under the recorded actions, compared with real frames and trivial baselines.

An episode has context frames x_0 .. x_{c-1}. Generated frame k is compared with x_{c+k} and is caused by
actions[c+k]. Index 0 of every curve is the first generated frame.

copy_last         the last context frame, repeated
mean_frame        the per-pixel mean of all real frames of the *other* episodes (Choice: known without looking)
shuffled_actions  the world under the actions of the next episode of the list, with the same context and noise
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vidar.data.episode import Episode
from vidar.eval.frame_metrics import (
    brightness,
    contrast,
    paired_interval,
    psnr,
    saturation,
    sharpness,
    ssim,
    t_quantile,
)
from vidar.eval.protocol import GAINS, LEAST_EPISODES, LEAST_FRAMES, WORLD, span
from vidar.rng import Rng
from vidar.types import UsageError, VidarError

LOOKS = {"sharpness": sharpness, "brightness": brightness, "contrast": contrast, "saturation": saturation}
LEAST_SIDE = 11  # the window of SSIM in pixels


class Dreamer(Protocol):
    """What is evaluated: `VideoModel`, or any object with the same rollout method."""

    def frames(
        self,
        context: Tensor,
        actions: Iterable[Tensor],
        context_actions: Tensor | None = None,
        rngs: Sequence[Rng] | None = None,
        steps: int | None = None,
    ) -> Iterator[Tensor]:
        """Context uint8 [B, T, H, W, 3], actions [B, A] per frame -> uint8 [B, H, W, 3] per frame."""
        ...


@dataclass(frozen=True)
class Gain:
    """Mean over the episodes of a difference of PSNR in dB, and its 95 % interval; frames: first and last, from 1."""

    mean: float
    low: float
    high: float
    frames: tuple[int, int]


@dataclass(frozen=True)
class WorldScores:
    """Curves of E episodes over T generated frames.

    real, dreamed  uint8 [E, T, H, W, 3]
    shuffled       uint8 [E, T, H, W, 3], dreamed under the actions of another episode
    actions        float32 [E, T, A], the ones that cause the real frames
    psnr, ssim     model, copy_last, mean_frame, shuffled_actions -> [E, T], against the real frames; dB, and in [-1, 1]
    looks          sharpness, brightness, contrast, saturation -> model, real -> [E, T]
    gains          baseline -> Gain of the model over it
    """

    names: tuple[str, ...]
    real: np.ndarray
    dreamed: np.ndarray
    shuffled: np.ndarray
    actions: np.ndarray
    psnr: Mapping[str, np.ndarray]
    ssim: Mapping[str, np.ndarray]
    looks: Mapping[str, Mapping[str, np.ndarray]]
    gains: Mapping[str, Gain]


def evaluate(
    world: Dreamer,
    episodes: Sequence[Episode],
    context_frames: int,
    frames: int,
    seed: int = 0,
    *,
    steps: int | None = None,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> WorldScores:
    """Roll the world out from the first `context_frames` of every episode, and score the `frames` that follow.

    Episode e has the noise of Rng(seed, e) in both rollouts, independent of the batch. progress(done, all) counts
    frames. Raises UsageError for fewer than 2 episodes or 16 frames, VidarError naming an episode that is too short.
    """
    _check(episodes, context_frames, frames)
    clips = np.stack([episode.frames[: context_frames + frames] for episode in episodes])
    actions = np.stack([episode.actions[: context_frames + frames] for episode in episodes])
    last, real = clips[:, context_frames - 1 : context_frames], clips[:, context_frames:]
    other = actions.copy()
    other[:, context_frames:] = np.roll(actions, -1, axis=0)[:, context_frames:]
    total, done = 2 * len(clips) * frames, 0

    def rolled(table: np.ndarray) -> np.ndarray:
        nonlocal done
        parts = []
        for start in range(0, len(clips), batch):
            rows = slice(start, min(start + batch, len(clips)))
            rngs = [Rng(seed, e) for e in range(rows.start, rows.stop)]
            made = []
            for frame in _dream(world, clips[rows, :context_frames], table[rows], frames, rngs, steps):
                made.append(frame)
                done += len(frame)
                if progress is not None:
                    progress(done, total)
            parts.append(np.stack(made, 1))
        return np.concatenate(parts)

    dreamed, shuffled = rolled(actions), rolled(other)
    answers = {
        "model": dreamed,
        "copy_last": np.repeat(last, frames, axis=1),
        "mean_frame": np.repeat(_mean_of_others(clips)[:, None], frames, axis=1),
        "shuffled_actions": shuffled,
    }
    decibels = {name: psnr(answer, real, 255.0).numpy() for name, answer in answers.items()}
    looks = {name: {"model": f(dreamed).numpy(), "real": f(real).numpy()} for name, f in LOOKS.items()}
    names = tuple(episode.name for episode in episodes)
    return WorldScores(
        names=names,
        real=real,
        dreamed=dreamed,
        shuffled=shuffled,
        actions=actions[:, context_frames:],
        psnr=decibels,
        ssim={name: _ssim(answer, real) for name, answer in answers.items()},
        looks=looks,
        gains=_gains(decibels),
    )


def latency(
    world: Dreamer,
    episode: Episode,
    context_frames: int,
    frames: int = 48,
    seed: int = 0,
    *,
    steps: int | None = None,
    warm_up: int = 8,
) -> np.ndarray:
    """Milliseconds of each frame of one stream (generation and decoding), after `warm_up` frames: [frames].

    Wall-clock time of one player; the first frame, which includes reading the context, belongs to the warm-up.
    """
    context, rest = torch.from_numpy(episode.frames[None, :context_frames]), episode.actions[context_frames:]
    source = (torch.from_numpy(row)[None] for row in cycle(rest))
    before = torch.from_numpy(episode.actions[None, :context_frames])
    stream = iter(world.frames(context, source, before, [Rng(seed)], steps))
    for _ in islice(stream, max(1, warm_up)):
        pass
    marks = [time.perf_counter()]
    marks += [time.perf_counter() for _ in islice(stream, frames)]
    return np.diff(marks) * 1e3


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[E, T] -> mean over the episodes [T], and half the width of its 95 % Student-t interval [T]."""
    half = t_quantile(len(values) - 1) * values.std(0, ddof=1) / math.sqrt(len(values))
    return values.mean(0), half


def sharpness_ratio(pair: Mapping[str, np.ndarray]) -> float:
    """Mean sharpness of the dream divided by that of the game, over the frames of the protocol.

    pair: model, real -> [E, T].
    """
    where = span(WORLD.means)
    return float(pair["model"][:, where].mean() / max(float(pair["real"][:, where].mean()), 1e-12))


def ratio_interval(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[E, T] and [E, T] -> ratio of the means over the episodes [T], and half the width of its 95 % interval [T].

    The interval is that of the ratio estimator (Cochran, Sampling Techniques, 1977, eq. 6.13), with Student's t.
    """
    size = np.maximum(below.mean(0), 1e-12)
    ratio = above.mean(0) / size
    spread = (above - ratio * below).std(0, ddof=1) / math.sqrt(len(above))
    return ratio, t_quantile(len(above) - 1) * spread / size


def summary(scores: WorldScores) -> dict[str, Any]:
    """Means over the episodes as plain JSON: psnr and looks as lists by frame, half widths of intervals, gains."""

    def listed(curve: np.ndarray) -> list[float]:
        return [round(float(value), 4) for value in curve]

    gains = {
        name: {"mean": round(g.mean, 4), "low": round(g.low, 4), "high": round(g.high, 4), "frames": list(g.frames)}
        for name, g in scores.gains.items()
    }
    return {
        "episodes": len(scores.names),
        "frames": scores.real.shape[1],
        "psnr": {name: listed(values.mean(0)) for name, values in scores.psnr.items()},
        "psnr_half_width_95": {name: listed(interval(values)[1]) for name, values in scores.psnr.items()},
        "ssim": {name: listed(values.mean(0)) for name, values in scores.ssim.items()},
        "sharpness_ratio": round(sharpness_ratio(scores.looks["sharpness"]), 4),
        "means": {"frames": list(WORLD.means), **_means(scores)},
        **{look: {who: listed(v.mean(0)) for who, v in pair.items()} for look, pair in scores.looks.items()},
        "gains": gains,
        "per_episode": {
            name: {kind: round(float(values[e].mean()), 4) for kind, values in scores.psnr.items()}
            for e, name in enumerate(scores.names)
        },
    }


def _dream(
    world: Dreamer, context: np.ndarray, actions: np.ndarray, frames: int, rngs: list[Rng], steps: int | None
) -> Iterator[np.ndarray]:
    """Context [B, c, H, W, 3], actions [B, c + frames, A] -> frames uint8 [B, H, W, 3], one by one."""
    count = context.shape[1]
    table = torch.from_numpy(np.ascontiguousarray(actions))
    caused_by = (table[:, count + k] for k in range(frames))
    stream = world.frames(torch.from_numpy(context.copy()), caused_by, table[:, :count], rngs, steps)
    for frame in islice(stream, frames):
        yield frame.numpy()


def _ssim(answer: np.ndarray, real: np.ndarray) -> np.ndarray:
    """[E, T, H, W, 3] each -> [E, T]; one frame at a time stays in the processor's cache (five times faster)."""
    shape = real.shape
    mine, theirs = (video.reshape(-1, 1, *shape[2:]) for video in (answer, real))
    return ssim(mine, theirs, 255.0).numpy().reshape(shape[:2])


def _mean_of_others(clips: np.ndarray) -> np.ndarray:
    """[E, T, H, W, 3] -> float64 [E, H, W, 3]: for each episode the mean frame of the other episodes."""
    means = clips.mean(1, dtype=np.float64)
    return (means.sum(0) - means) / (len(clips) - 1)


def _means(scores: WorldScores) -> dict[str, float]:
    """PSNR and SSIM of the dream over the frames of the protocol."""
    where = span(WORLD.means)
    each = {"psnr": scores.psnr["model"], "ssim": scores.ssim["model"]}
    return {name: round(float(values[:, where].mean()), 4) for name, values in each.items()}


def _gains(scores: Mapping[str, np.ndarray]) -> dict[str, Gain]:
    gains = {}
    for name, frames in GAINS.items():
        mine, theirs = (scores[who][:, span(frames)].mean(1) for who in ("model", name))
        gains[name] = Gain(*paired_interval(mine, theirs), frames)
    return gains


def _check(episodes: Sequence[Episode], context_frames: int, frames: int) -> None:
    if len(episodes) < LEAST_EPISODES or context_frames < 1 or frames < LEAST_FRAMES:
        raise UsageError(
            f"an evaluation needs at least {LEAST_EPISODES} episodes, 1 context frame and {LEAST_FRAMES} frames, "
            f"not {len(episodes)}, {context_frames} and {frames}"
        )
    want = context_frames + frames
    for episode in episodes:
        if len(episode.frames) < want:
            raise VidarError(f"{episode.name}: has {len(episode.frames)} frames, but {want} are needed; leave it out")
        if episode.frames.shape[1:] != episodes[0].frames.shape[1:]:
            raise VidarError(f"{episode.name}: its frames differ in size from those of {episodes[0].name}; resize them")
    if min(episodes[0].frames.shape[1:3]) < LEAST_SIDE:
        size = " x ".join(map(str, episodes[0].frames.shape[1:3]))
        raise VidarError(f"{episodes[0].name}: frames of {size}; the metrics need at least {LEAST_SIDE} pixels a side")
