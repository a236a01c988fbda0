"""Does a frame look like a frame of this game? Its blocks are compared with the nearest blocks of real play.

A block is 32 x 32 pixels, and a block begins every 16 pixels. Its features are the logarithms of its wavelet energies
(three orientations, three scales, luma and two colour differences) and its mean colours. They are taken from the
picture at a quarter of its size, because an autoencoder loses the finest pixels of every frame, which is no reason to
call it another game.

A block of a rare texture is far from all others also in real play. Therefore the distance that is to be expected near
each reference block is fitted on other real episodes, and the logarithm of the distance is judged against it. The
score of a frame is the mean over its blocks, in standard deviations of real blocks. Choice: all numbers here were
chosen on real play and on dreams of one world before any other was judged (docs/notes/evaluation.md).

All sums are exact: energies are dyadic fractions in float64, features and logarithms are rounded to whole steps, and
matrix products are of whole numbers that float32 or float64 holds. So a score does not depend on the order of a sum,
on the number of threads, or on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidar.data.atomic import replacing
from vidar.types import UsageError

HALVINGS = 2  # of the picture
SIDE, STRIDE = 8, 4  # pixels of the reduced picture along the side of a block, and between the beginnings of two
SCALES = 3  # wavelet levels inside a block
FEATURES = 3 * (3 * SCALES + 1)
FLOOR = 4.0  # energy below which a band counts as flat, in squared grey levels
STEPS = 32  # of a feature per standard deviation
FARTHEST = 16 * STEPS  # a feature ends there: squared distances of near blocks stay below 2^24, exact in float32
LOG_STEPS = 4096  # of a logarithm
WEIGHT_STEPS = 2**26  # of a weight of the regression
NEAR = 1.2  # reference blocks closer than this to one that is kept are left out, in standard deviations
BLOCKS = 120_000  # blocks of real play of which the kept ones are chosen
KEPT = 30_000  # at most
SLACK = 0.2  # added to distances before the logarithm
RIDGE = 1e-3
FLAGGED = 0.01  # share of other real frames that are flagged
CHUNK = 2048  # blocks compared at once


@dataclass(frozen=True)
class Manifold:
    """blocks: reference blocks, whole numbers as float32 [K, F], 32 for a standard deviation.

    middle, width: mean and standard deviation of the features, float64 [F]. expected: weights of the expected logarithm
    of a distance, float64 [1 + 2 F]; spread: its standard deviation on real blocks. threshold: the score above which a
    frame is not one of this game.
    """

    blocks: Tensor
    middle: np.ndarray
    width: np.ndarray
    expected: np.ndarray
    spread: float
    threshold: float

    @staticmethod
    def of(reference: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> Manifold:
        """reference, others: real episodes, uint8 [T, H, W, 3] each; no episode is in both.

        Even episodes of `others` fit the expected distance, odd ones set the threshold, which `FLAGGED` of their frames
        exceed. Raises UsageError for fewer than one reference and two other episodes, or for frames that are too small.
        """
        if len(reference) < 1 or len(others) < 2:
            raise UsageError(f"{len(reference)} reference and {len(others)} other episodes; give 1 and 2 or more")
        found = np.concatenate([_features(episode).reshape(-1, FEATURES) for episode in reference])
        middle, width = _moments(found)
        order = np.random.Generator(np.random.Philox(0)).permutation(len(found))[:BLOCKS]
        plain = Manifold(torch.zeros(1, FEATURES), middle, width, np.zeros(1 + 2 * FEATURES), 1.0, np.inf)
        plain = replace(plain, blocks=_spread_out(plain._steps(found[order])))
        logs, near = plain._nearest(np.concatenate(others[::2]))
        expected, spread = _fitted(_terms(near), logs)
        fitted = replace(plain, expected=expected, spread=spread)
        scores = np.concatenate([fitted.scores(episode) for episode in others[1::2]])
        return replace(fitted, threshold=float(np.quantile(scores, 1 - FLAGGED)))

    def save(self, file: Path) -> None:
        """Write it into one .npz file."""
        arrays: dict[str, Any] = {one.name: np.asarray(getattr(self, one.name)) for one in fields(Manifold)}
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **arrays)

    @staticmethod
    def load(file: Path) -> Manifold:
        """Raises OSError, ValueError or KeyError for a file that is damaged."""
        with np.load(file, allow_pickle=False) as found:
            blocks, middle, width, expected = (found[name] for name in ("blocks", "middle", "width", "expected"))
            spread, threshold = float(found["spread"]), float(found["threshold"])
        return Manifold(torch.from_numpy(blocks), middle, width, expected, spread, threshold)

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [N, H, W, 3] -> float64 [N]: about 0 for real play, larger the less a frame looks like it."""
        logs, near = self._nearest(frames)
        off = (logs - _terms(near) @ self.expected) / self.spread
        return off.reshape(len(frames), -1).mean(1)

    def off(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [N, H, W, 3] -> bool [N]: whether they are not pictures of this game."""
        return self.scores(frames) > self.threshold

    def apart(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Frames [N, H, W, 3] and [N, H, W, 3] -> float64 [N]: distance of each pair in the features.

        The mean over the blocks of a frame, in standard deviations of the features of real blocks.
        """
        pairs = [self._steps(_features(frames)).double() for frames in (a, b)]
        return ((pairs[0] - pairs[1]).square().sum(-1).sqrt().mean(1) / STEPS).numpy()

    def _steps(self, features: np.ndarray) -> Tensor:
        """Features [.., F] -> whole numbers of steps, as float32 [.., F]."""
        steps = np.rint((features - self.middle) / self.width * STEPS)
        return torch.from_numpy(np.clip(steps, -FARTHEST, FARTHEST).astype(np.float32))

    def _nearest(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log distances of all n blocks of N frames to the nearest reference blocks [N n], and these blocks [N n, F].

        The logarithms are whole multiples of 1 / 4096.
        """
        squares, places = _nearest(self._steps(_features(frames)).reshape(-1, FEATURES), self.blocks)
        distances = np.sqrt(squares.double().numpy()) / STEPS
        logs = np.rint(np.log(distances + SLACK) * LOG_STEPS) / LOG_STEPS
        return logs, self.blocks[places].double().numpy()


def _features(frames: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float64 [N, n, FEATURES]; what is less than a block at the right and below is left out."""
    least = SIDE << HALVINGS
    if frames.dtype != np.uint8 or frames.ndim != 4 or min(frames.shape[1:3]) < least:
        told = f"{frames.dtype} {list(frames.shape)}"
        raise UsageError(f"frames are {told}, expected uint8 [N, H, W, 3] with at least {least} x {least} pixels")
    height, width = (side - side % (1 << HALVINGS) for side in frames.shape[1:3])
    red, green, blue = np.moveaxis(frames[:, :height, :width].astype(np.float32), -1, 0)
    planes = np.stack([red + 2 * green + blue, 2 * (red - green), 2 * (blue - green)], 1) / 4
    for _ in range(HALVINGS):
        planes = _wavelet(planes)[0]
    blocks = np.lib.stride_tricks.sliding_window_view(planes, (SIDE, SIDE), (2, 3))[:, :, ::STRIDE, ::STRIDE]
    n, count = len(frames), blocks.shape[2] * blocks.shape[3]
    level, found = blocks.transpose(0, 2, 3, 1, 4, 5).reshape(n * count, 3, SIDE, SIDE).astype(np.float64), []
    for _ in range(SCALES):
        level, *bands = _wavelet(level)
        found += [np.log((band * band).mean((2, 3)) + FLOOR) for band in bands]
    found.append(level.mean((2, 3)) / 16)
    return np.concatenate(found, 1).reshape(n, count, FEATURES)


def _wavelet(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """One level of the Haar transform: mean, horizontal, vertical, diagonal [.., H, W] -> [.., H/2, W/2] each."""
    a, b, c, d = x[..., 0::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return (a + b + c + d) / 4, (a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of features [N, F], from whole multiples of 1 / 4096, whose sums are exact."""
    steps = np.rint(features * LOG_STEPS).astype(np.int64)
    count = len(steps)
    total, squares = steps.sum(0), (steps * steps).sum(0)
    variance = (squares - total * (total / count)) / count
    return total / count / LOG_STEPS, np.sqrt(np.maximum(variance, 0.0)) / LOG_STEPS + 1e-9


def _nearest(rows: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of each row [N, F] to the nearest block [K, F], and the place of this block: [N] each."""
    squares, found = blocks.square().sum(1), []
    for part in rows.split(CHUNK):
        found.append((part.square().sum(1, keepdim=True) + squares - 2 * part @ blocks.T).min(1))
    return torch.cat([one.values for one in found]).clamp(min=0), torch.cat([one.indices for one in found])


def _spread_out(rows: Tensor) -> Tensor:
    """Rows [N, F] without those that are close to one that is kept: a few blocks stand for each texture."""
    kept, near = rows[:32], (NEAR * STEPS) ** 2
    for part in rows[32:].split(CHUNK):
        new = part[_nearest(part, kept)[0] > near]
        while len(new):  # of rows that are close to one another, the first 32 stay
            kept = torch.cat([kept, new[:32]])
            new = new[32:]
            if len(new):
                new = new[_nearest(new, kept[-32:])[0] > near]
        if len(kept) >= KEPT:
            break
    return kept[:KEPT].contiguous()


def _terms(rows: np.ndarray) -> np.ndarray:
    """Whole features [N, F] -> terms of the regression, whole numbers [N, 1 + 2 F]."""
    return np.concatenate([np.ones((len(rows), 1)), rows, rows * rows], 1)


def _fitted(terms: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Ridge regression: weights [K], rounded to whole steps, and the standard deviation of what is left."""
    scale = np.array([1.0] + [STEPS] * FEATURES + [STEPS**2] * FEATURES)  # in standard deviations
    squares = terms.T @ terms / (scale * scale[:, None])
    found = np.linalg.solve(
        squares + RIDGE * len(terms) * np.eye(len(scale)), terms.T @ (target * LOG_STEPS) / scale / LOG_STEPS
    )
    weights = np.rint(found / scale * WEIGHT_STEPS) / WEIGHT_STEPS
    return weights, float(np.rint((target - terms @ weights).std() * WEIGHT_STEPS) / WEIGHT_STEPS)
