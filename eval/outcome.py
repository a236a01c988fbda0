"""How well a world predicts reward and end, on recorded frames and on its own dreams under the recorded actions.

A reward is measured by R2, 1 - squared error / variance, which is 0 for always predicting the mean. An end is rare,
so the shares are reported with the table that they are computed from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from vidar.data.index import load_index
from vidar.data.reader import read_extra, read_sample, read_side, samples
from vidar.eval.inverse_dynamics import balanced_accuracy, confusion
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.train.outcomes import EXTRAS, check_known
from vidar.types import VidarError

ROWS = 16  # number of windows dreamed in one forward pass


@dataclass(frozen=True)
class Play:
    """One episode: frames uint8 [T, H, W, 3], actions [T, A], rewards and ended [T], NaN where not recorded."""

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray


@dataclass(frozen=True)
class Judged:
    """M steps, float [M] each: true, previous and predicted reward; true end, and its predicted probability."""

    reward: np.ndarray
    last: np.ndarray
    found: np.ndarray
    ended: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class RewardScore:
    """R2 of the world and of repeating the last reward (the mean has 0), over `count` steps.

    It is nan if no reward varies.
    """

    world: float
    last: float
    count: int


@dataclass(frozen=True)
class EndScore:
    """Shares, nan if there are no steps; table long [2, 2]: rows are the truth, columns the prediction."""

    balanced_accuracy: float
    precision: float
    recall: float
    table: np.ndarray


def plays(world: VideoModel, path: str, split: str) -> Iterator[Play]:
    """The episodes of a split, one in memory at a time. Raises VidarError for damaged data, or data of another game."""
    check_known(path, world.config)
    for sample in samples(path, load_index(path), split):
        side, episode = read_side(sample), read_sample(sample, ())
        unknown = np.full(len(episode.frames), np.nan)
        there = side["sha256_extras"]
        rewards, ended = (read_extra(sample, side, e).astype(np.float64) if e in there else unknown for e in EXTRAS)
        yield Play(episode.frames, episode.actions, rewards, ended)


def on_recorded(world: VideoModel, play: Play) -> Judged:
    """Judge every step of an episode from its own frames."""
    codes = world.encode(torch.from_numpy(np.ascontiguousarray(play.frames))[None])[0]
    return _judged(world, codes, play, slice(1, len(codes)))


def on_dreams(world: VideoModel, episodes: Sequence[Play], frames: int = 16, seed: int = 0) -> list[Judged]:
    """The first `frames` frames the world dreams after real context, under the recorded actions.

    Every episode that is long enough gives two windows, at its start and at its end, so that ends are included; one
    window if they coincide. Window i has the noise of video i, independent of the other windows.
    """
    keep = world.config.context
    windows = [window for play in episodes for window in _windows(play, keep + frames)]
    found: list[Judged] = []
    for start in range(0, len(windows), ROWS):
        rows = windows[start : start + ROWS]
        context = torch.from_numpy(np.stack([row.frames[:keep] for row in rows]))
        actions = torch.from_numpy(np.stack([row.actions for row in rows]))
        codes = world.encode(context)
        rngs = [Rng(seed, start + i) for i in range(len(rows))]
        made = world.codes(codes, iter(actions[:, keep:].unbind(1)), actions[:, :keep], rngs)
        dreamed = torch.cat([codes, torch.stack(list(islice(made, frames)), 1)], 1)
        found += [_judged(world, code, row, slice(keep, keep + frames)) for code, row in zip(dreamed, rows)]
    return found


def reward_score(steps: Judged) -> RewardScore:
    """Over the steps whose reward is known."""
    known = ~np.isnan(steps.reward) & ~np.isnan(steps.last)
    truth = steps.reward[known]
    return RewardScore(r_squared(truth, steps.found[known]), r_squared(truth, steps.last[known]), len(truth))


def end_score(steps: Judged) -> EndScore:
    """Over the steps for which it is known whether the game ended; the prediction uses the environment's rule."""
    known = ~np.isnan(steps.ended)
    truth, found = steps.ended[known].astype(np.int64), (steps.probability[known] > 0.5).astype(np.int64)
    table = confusion(truth, found, 2)
    right, judged, there = table[1, 1], table[:, 1].sum(), table[1].sum()
    nan = float("nan")
    precision, recall = (float(right / count) if count else nan for count in (judged, there))
    return EndScore(balanced_accuracy(table), precision, recall, table)


def r_squared(truth: np.ndarray, found: np.ndarray) -> float:
    """1 - sum of squared errors / sum of squares about the mean, for [M] and [M]; nan if the truth does not vary."""
    spread = np.square(truth - truth.mean()).sum() if len(truth) else 0.0
    return float(1 - np.square(truth - found).sum() / spread) if spread > 0 else float("nan")


def together(parts: Sequence[Judged]) -> Judged:
    """Concatenate all steps. Raises VidarError if there are none."""
    if not parts:
        raise VidarError("no episode is long enough to be judged; record longer ones")
    return Judged(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Judged)))


def _windows(play: Play, count: int) -> list[Play]:
    starts = dict.fromkeys((0, len(play.frames) - count)) if len(play.frames) >= count else ()
    return [Play(*(getattr(play, f.name)[s : s + count] for f in fields(Play))) for s in starts]


def _judged(world: VideoModel, codes: Tensor, play: Play, steps: slice) -> Judged:
    """Codes [T, n, C] of an episode's frames -> the judged steps that lead to the frames in `steps`."""
    before = slice(steps.start - 1, steps.stop - 1)
    pairs = torch.stack([codes[before], codes[steps]], 1)
    reward, probability = world.outcomes(pairs, torch.from_numpy(play.actions[steps].copy()))
    return Judged(
        play.rewards[steps], play.rewards[before], reward.double().numpy(), play.ended[steps], probability.numpy()
    )
