"""Motion between two frames by block matching, in integers: the same numbers on any machine and number of threads."""

from __future__ import annotations

import math

import numpy as np

from vidar.types import UsageError

LUMA = (299, 587, 114)  # ITU-R BT.601, in thousandths
SIDE = 128  # frames are averaged by a whole factor until their shorter side is below twice this
BLOCK = 8  # side of a block in averaged pixels
REST = 1  # levels of 255, of the mean difference in a block, by which motion must beat rest
OUTSIDE = 1 << 40  # a value that no block matches


def block_flow(first: np.ndarray, second: np.ndarray, reach: float) -> np.ndarray:
    """How far each block of `first` moved until `second`: uint8 [H, W, 3] twice -> pixels, float64 [rows, columns].

    Exhaustive search for the least sum of absolute differences of luma, over whole displacements of averaged pixels up
    to `reach` pixels along each axis and at least 8 averaged ones. The frames are averaged by the whole factor
    min(H, W) // 128, so displacements are multiples of it. Of equal fits the shortest displacement wins. Choice: a
    displacement counts only if it lowers the mean difference by more than one level, so that flat areas and the noise
    of a codec are at rest. Content that leaves the frame has no match and takes the best one that is left.

    Raises UsageError for frames of different sizes or below 8 pixels.
    """
    if first.shape != second.shape or min(first.shape[:2]) < BLOCK:
        raise UsageError(
            f"block matching needs two frames of one size, at least {BLOCK}x{BLOCK}, not {first.shape} {second.shape}"
        )
    factor = max(1, min(first.shape[:2]) // SIDE)
    before, after = _averaged(first, factor), _averaged(second, factor)
    radius = min(max(BLOCK, math.ceil(reach / factor)), min(before.shape) - 1)
    rows, columns = (size // BLOCK for size in before.shape)
    blocks = before[: rows * BLOCK, : columns * BLOCK]
    padded = np.pad(after, radius, constant_values=OUTSIDE)
    unit = REST * sum(LUMA) * factor**2 * BLOCK**2  # of one level in every pixel of a block
    best = np.full((rows, columns), np.iinfo(np.int64).max)
    length = np.zeros((rows, columns), np.int64)  # squared
    for down, right in _displacements(radius):
        top, left = radius + down, radius + right
        seen = padded[top : top + blocks.shape[0], left : left + blocks.shape[1]]
        cost = np.abs(blocks - seen).reshape(rows, BLOCK, columns, BLOCK).sum((1, 3))
        far = down * down + right * right
        if far:
            cost += unit
        better = cost < best
        best[better], length[better] = cost[better], far
    return np.sqrt(length.astype(np.float64)) * factor


def _displacements(radius: int) -> list[tuple[int, int]]:
    """All (down, right) up to the radius, the shortest first."""
    axis = range(-radius, radius + 1)
    return sorted(((d, r) for d in axis for r in axis), key=lambda one: (one[0] ** 2 + one[1] ** 2, one))


def _averaged(frame: np.ndarray, factor: int) -> np.ndarray:
    """Luma uint8 [H, W, 3] -> int64, sums of squares of `factor` pixels; what is left over at the edges is cut off."""
    luma = frame.astype(np.int64) @ np.array(LUMA)
    rows, columns = (size // factor for size in luma.shape)
    return luma[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).sum((1, 3))
