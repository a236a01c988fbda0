"""Does a frame look like a frame of this game? Its blocks are compared with the nearest blocks of real play.

A block is 32 x 32 pixels, and a block begins every 16 pixels. Its features are the logarithms of its wavelet energies
(three orientations, three scales, luma and two colour differences) and its mean colours. They are taken from the
picture at a quarter of its size, because an autoencoder loses the finest pixels of every frame, which is no reason to
call it another game.

A block of a rare texture is far from all others also in real play. Therefore the distance that is to be expected near
each reference block is fitted on other real episodes, and the logarithm of the distance is judged against it. The
score of a frame is the mean over its blocks, in standard deviations of real blocks. Choice: all numbers here were
chosen on real play and on dreams of one world before any other was judged (docs/notes/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidar.types import UsageError

HALVINGS = 2  # of the picture
SIDE, STRIDE = 8, 4  # pixels of the reduced picture along the side of a block, and between the beginnings of two
SCALES = 3  # wavelet levels inside a block
FEATURES = 3 * (3 * SCALES + 1)
FLOOR = 4.0  # energy below which a band counts as flat, in squared grey levels
NEAR = 1.2  # reference blocks closer than this to one that is kept are left out
BLOCKS = 120_000  # blocks of real play of which the kept ones are chosen
KEPT = 30_000  # at most
SLACK = 0.2  # added to distances before the logarithm
RIDGE = 1e-3
FLAGGED = 0.01  # share of other real frames that are flagged
CHUNK = 2048  # blocks compared at once


@dataclass(frozen=True)
class Manifold:
    """blocks: reference blocks float32 [K, F]; middle, width: mean and standard deviation of the features [F].

    expected: weights of the expected logarithm of a distance [1 + 2 F]; spread: its standard deviation on real blocks.
    threshold: the score above which a frame is not one of this game.
    """

    blocks: Tensor
    middle: np.ndarray
    width: np.ndarray
    expected: Tensor
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
        middle, width = found.mean(0), found.std(0) + 1e-9
        order = np.random.Generator(np.random.Philox(0)).permutation(len(found))[:BLOCKS]
        blocks = _spread_out(torch.from_numpy((found[order] - middle) / width))
        plain = Manifold(blocks, middle, width, torch.zeros(1 + 2 * FEATURES), 1.0, np.inf)
        fit = np.concatenate(others[::2])
        distances, near = plain._nearest(fit)
        expected, spread = _fitted(_terms(near), torch.log(distances + SLACK))
        fitted = Manifold(blocks, middle, width, expected, spread, np.inf)
        scores = np.concatenate([fitted.scores(episode) for episode in others[1::2]])
        return Manifold(blocks, middle, width, expected, spread, float(np.quantile(scores, 1 - FLAGGED)))

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [N, H, W, 3] -> float64 [N]: about 0 for real play, larger the less a frame looks like it."""
        distances, near = self._nearest(frames)
        off = (torch.log(distances + SLACK) - _terms(near) @ self.expected) / self.spread
        return off.reshape(len(frames), -1).double().mean(1).numpy()

    def off(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [N, H, W, 3] -> bool [N]: whether they are not pictures of this game."""
        return self.scores(frames) > self.threshold

    def _nearest(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Of all blocks of the frames, the distances to the nearest reference blocks [N n], and these [N n, F]."""
        rows = torch.from_numpy((_features(frames).reshape(-1, FEATURES) - self.middle) / self.width)
        distances, places = _nearest(rows, self.blocks)
        return distances, self.blocks[places]


def _features(frames: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float32 [N, n, FEATURES]; what is less than a block at the right and below is left out."""
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
    level, found = blocks.transpose(0, 2, 3, 1, 4, 5).reshape(n * count, 3, SIDE, SIDE), []
    for _ in range(SCALES):
        level, *bands = _wavelet(level)
        found += [np.log((band * band).mean((2, 3)) + FLOOR) for band in bands]
    found.append(level.mean((2, 3)) / 16)
    return np.concatenate(found, 1).reshape(n, count, FEATURES)


def _wavelet(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """One level of the Haar transform: mean, horizontal, vertical, diagonal [.., H, W] -> [.., H/2, W/2] each."""
    a, b, c, d = x[..., 0::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return (a + b + c + d) / 4, (a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4


def _nearest(rows: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance of each row [N, F] to the nearest block [K, F], and the place of this block: [N] each."""
    squares, found = blocks.square().sum(1), []
    for part in rows.split(CHUNK):
        found.append((part.square().sum(1, keepdim=True) + squares - 2 * part @ blocks.T).min(1))
    values = torch.cat([one.values for one in found])
    return values.clamp(min=0).sqrt(), torch.cat([one.indices for one in found])


def _spread_out(rows: Tensor) -> Tensor:
    """Rows [N, F] without those that are close to one that is kept: a few blocks stand for each texture."""
    kept = rows[:32]
    for part in rows[32:].split(CHUNK):
        new = part[_nearest(part, kept)[0] > NEAR]
        while len(new):  # of rows that are close to one another, the first 32 stay
            kept = torch.cat([kept, new[:32]])
            new = new[32:]
            if len(new):
                new = new[_nearest(new, kept[-32:])[0] > NEAR]
        if len(kept) >= KEPT:
            break
    return kept[:KEPT].contiguous()


def _terms(rows: Tensor) -> Tensor:
    """Features [N, F] -> terms of the regression [N, 1 + 2 F]."""
    return torch.cat([torch.ones(len(rows), 1), rows, rows.square()], 1)


def _fitted(terms: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """Ridge regression in float64: weights [K], and the standard deviation of what is left."""
    x, y = terms.double(), target.double()
    weights = torch.linalg.solve(x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
    return weights.float(), float((y - x @ weights).std())
