"""Dimensions of VBench that need no network, in closed form (Huang et al. 2024, VBench; formulas of package 0.1.5).

`temporal_flickering` is the official formula. The others have official formulas around our own replacement of a
network, and a label that says so: `dynamic_degree/blockmatch` (RAFT), `motion_smoothness/linear` (AMT-S),
`subject_consistency/pixels` (DINO). Their numbers must not be compared with official ones.

All take frames uint8 [T, H, W, 3] and raise UsageError if there are too few. Sums are of integers, so a number is the
same on any machine and number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from vidar.eval.block_matching import block_flow
from vidar.types import UsageError

Flow = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (frame, next, reach) -> distances in pixels, any shape
Features = Callable[[np.ndarray], np.ndarray]  # frames uint8 [T, H, W, 3] -> [T, D]
LEVELS = 255
BASE = 256  # side in pixels to which the thresholds refer
DYNAMIC, STATIC = 6.0, 3.0  # pixels per pair, for a frame whose shorter side is `BASE`
LARGEST_DYNAMIC, LARGEST_STATIC = 0.05, 0.02  # share of the pixels whose motion is averaged
SAMPLED_FPS = 8
CELLS = 8  # of `pixels`, along each side


def temporal_flickering(frames: np.ndarray) -> float:
    """(255 - mean |x_t - x_{t+1}|) / 255 over pairs, pixels and channels: 1 for a still clip, 0 for black and white.

    The official function rounds each pair's mean to float32, and so differs from this by less than 1e-6. The order of
    the channels does not matter.
    """
    clip = _clip(frames, 2)
    return _quiet(sum(_difference(a, b) for a, b in zip(clip, clip[1:])), (len(clip) - 1) * clip[0].size)


def motion_smoothness(frames: np.ndarray) -> float:
    """(255 - mean |x_t - (x_{t-1} + x_{t+1}) / 2|) / 255 over odd t that have a next frame.

    The official frame between two even ones comes from AMT-S; linear interpolation is exact for fades and penalises
    fast motion.
    """
    clip = _clip(frames, 3)
    odd = range(1, len(clip) - 1, 2)
    wide = clip.astype(np.int64)
    total = sum(int(np.abs(2 * wide[t] - wide[t - 1] - wide[t + 1]).sum()) for t in odd)
    return _quiet(total, 2 * len(odd) * clip[0].size)


def consistency(features: np.ndarray) -> float:
    """Mean over t >= 1 of (max(0, cos(f_{t-1}, f_t)) + max(0, cos(f_0, f_t))) / 2, of features [T, D].

    The cosine with a zero vector is 0. Integer features of moderate size give the same number everywhere.
    """
    if features.ndim != 2 or len(features) < 2:
        raise UsageError(f"consistency needs features [T, D] of at least 2 frames, not {list(features.shape)}")
    terms = [max(0.0, _cosine(a, b)) for a, b in zip(features, features[1:])]
    first = [max(0.0, _cosine(features[0], b)) for b in features[1:]]
    return sum((a + b) / 2 for a, b in zip(terms, first)) / len(terms)


def consistency_of_set(videos: Iterable[np.ndarray]) -> float:
    """`consistency` of several videos as the official package averages it: over all frames, not over the videos."""
    scored = [(consistency(features), len(features) - 1) for features in videos]
    if not scored:
        raise UsageError("there are no videos to average")
    return sum(score * count for score, count in scored) / sum(count for _, count in scored)


def pixels(frames: np.ndarray) -> np.ndarray:
    """Features without weights: sums of each colour over 8 x 8 cells, centred on grey, int64 [T, 192]."""
    clip = _clip(frames, 1).astype(np.int64) * 2 - LEVELS
    rows, columns = (_edges(size) for size in clip.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(clip, rows, axis=1), columns, axis=2)
    return sums.reshape(len(clip), -1)


def subject_consistency(frames: np.ndarray) -> float:
    """`consistency` of `pixels`."""
    return consistency(pixels(frames))


def dynamic_degree(frames: np.ndarray, fps: float = SAMPLED_FPS, flow: Flow = block_flow) -> float:
    """1.0 if a video moves, else 0.0.

    The video is sampled to about 8 frames per second (each max(1, round(fps / 8)) frames). A pair moves if the mean of
    the largest 5 % of the distances exceeds 6 min(H, W) / 256 pixels, and the video does if at least round(n / 4) of
    its pairs do, n being the number of sampled frames.
    """
    sampled = _clip(frames, 2)[:: max(1, round(fps / SAMPLED_FPS))]
    limit = DYNAMIC * _scale(sampled)
    moving = sum(score > limit for score in _scores(zip(sampled, sampled[1:]), flow, limit, LARGEST_DYNAMIC))
    return float(len(sampled) > 1 and moving >= round(4 * (len(sampled) / 16)))


def motion(frames: np.ndarray, flow: Flow = block_flow) -> float:
    """Mean over pairs of the largest 5 % of the distances, in pixels of a frame whose shorter side is 256.

    Not a dimension of VBench: the number behind `dynamic_degree`, for every pair, without its thresholds.
    """
    clip = _clip(frames, 2)
    scores = _scores(zip(clip, clip[1:]), flow, DYNAMIC * _scale(clip), LARGEST_DYNAMIC)
    return sum(scores) / len(scores) / _scale(clip)


def is_static(frames: np.ndarray, flow: Flow = block_flow) -> bool:
    """The filter before `temporal_flickering`: whether nothing but flicker changes.

    The score of a pair is the mean of the largest 2 % of its distances, the limit is 3 min(H, W) / 256 pixels and
    c = round(T / 8). Not static if more than c consecutive pairs exceed the limit, or if (first, last) or (last, first)
    exceeds 2 c times the limit.
    """
    clip = _clip(frames, 2)
    limit, count = STATIC * _scale(clip), round(2 * (len(clip) / 16))
    moving = sum(score > limit for score in _scores(zip(clip, clip[1:]), flow, limit, LARGEST_STATIC))
    if moving > count:
        return False
    ends = [(clip[0], clip[-1]), (clip[-1], clip[0])]
    return all(score <= 2 * count * limit for score in _scores(ends, flow, 2 * count * limit, LARGEST_STATIC))


NATIVE: Mapping[str, Callable[[np.ndarray], float]] = {
    "temporal_flickering": temporal_flickering,
    "motion_smoothness/linear": motion_smoothness,
    "subject_consistency/pixels": subject_consistency,
    "dynamic_degree/blockmatch": dynamic_degree,
    "motion/blockmatch": motion,
}


def _clip(frames: np.ndarray, least: int) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < least:
        expected = f"expected uint8 frames T x H x W x 3, T at least {least}"
        raise UsageError(f"{expected}, got {frames.dtype} {list(frames.shape)}")
    return frames


def _difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(np.int16) - b.astype(np.int16)).sum(dtype=np.int64))


def _quiet(total: int, count: int) -> float:
    """(255 - total / count) / 255, rounded once."""
    return (LEVELS * count - total) / (LEVELS * count)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    exact = np.int64 if np.issubdtype(a.dtype, np.integer) else np.float64
    x, y = a.astype(exact), b.astype(exact)
    dot, norm = float((x * y).sum()), float((x * x).sum()) * float((y * y).sum())
    return dot / norm**0.5 if norm else 0.0


def _edges(size: int) -> list[int]:
    """Where each of the cells begins. Raises UsageError if a side has fewer pixels than cells."""
    if size < CELLS:
        raise UsageError(f"needs frames of at least {CELLS}x{CELLS} pixels")
    return [number * size // CELLS for number in range(CELLS)]


def _scale(clip: np.ndarray) -> float:
    return min(clip.shape[1:3]) / BASE


def _scores(pairs: Iterable[tuple[np.ndarray, np.ndarray]], flow: Flow, limit: float, share: float) -> list[float]:
    """The mean of the largest share of the distances of each pair."""
    scores: list[float] = []
    for first, second in pairs:
        distances = flow(first, second, limit)
        cut = int(first.shape[0] * first.shape[1] * share)
        each = max(1, first.shape[0] * first.shape[1] // distances.size)  # pixels of a cell of the flow
        largest = np.sort(np.repeat(distances.astype(np.float64).ravel(), each))[::-1][:cut]
        scores.append(math.fsum(largest) / cut if cut else 0.0)
    return scores
