"""Schedules of scales: the grids of a pyramid (VAR, Infinity, InfinityStar)."""

from __future__ import annotations

from collections.abc import Sequence

Size = tuple[int, int, int]  # t, h, w of one scale
Side = tuple[int, int]  # h, w

VAR_SIDES = {
    256: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    512: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
    1024: (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64),
}
INFINITY_SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)  # 1:1; first 7: 256 px, 10: 512 px, 13: 1024 px
INFINITYSTAR_SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 40, 60)  # first 14: 480p, 15: 720p


def square(sides: Sequence[int]) -> tuple[Side, ...]:
    """Sides -> (h, w) of every scale."""
    return tuple((side, side) for side in sides)


def aspect(ratio: float, num_scales: int = len(INFINITYSTAR_SIDES)) -> tuple[Side, ...]:
    """InfinityStar's grids for ratio = h / w: h = round(S sqrt(ratio)), w = round(S / sqrt(ratio))."""
    root = ratio**0.5
    return tuple((max(1, round(s * root)), max(1, round(s / root))) for s in INFINITYSTAR_SIDES[:num_scales])


def still(sides: Sequence[Side], frames: int = 1) -> tuple[Size, ...]:
    """(h, w) of every scale -> (t, h, w), with the same number of latent frames at every scale."""
    return tuple((frames, h, w) for h, w in sides)
