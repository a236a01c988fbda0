"""Schedules of scales: the grids of a pyramid, and where in a video pyramids begin (VAR, Infinity, InfinityStar)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidar.types import UsageError

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


def doubling(side: int) -> tuple[Side, ...]:
    """1, 2, 4, ..., side (FlowAR). Raises UsageError for a side that is no power of two."""
    if side < 1 or side & (side - 1):
        raise UsageError(f"a doubling schedule ends at a power of two, not at {side}")
    return square([2**n for n in range(side.bit_length())])


def still(sides: Sequence[Side], frames: int = 1) -> tuple[Size, ...]:
    """(h, w) of every scale -> (t, h, w), the same number of latent frames at every scale."""
    return tuple((frames, h, w) for h, w in sides)


@dataclass(frozen=True)
class Pyramid:
    """sizes: (t, h, w) of every scale. start: latent frame at which it begins; F starts from zero there."""

    start: int
    sizes: tuple[Size, ...]

    @property
    def frames(self) -> slice:
        """Its latent frames."""
        return slice(self.start, self.start + self.sizes[-1][0])


def clip_pyramids(frames: int, sides: Sequence[Side], clip: int = 20) -> list[Pyramid]:
    """Latent frame 0 by itself, then clips of `clip` frames, the last one shorter (InfinityStar); clip 1: VideoAR.

    A pyramid reads no frame after its own, so both layouts stream.
    """
    if frames < 1 or clip < 1:
        raise UsageError(f"{frames} latent frames in clips of {clip} make no pyramids; both must be 1 or more")
    pieces = [(0, 1), *((start, min(clip, frames - start)) for start in range(1, frames, clip))]
    return [Pyramid(start, still(sides, length)) for start, length in pieces]


def joint_pyramid(times: Sequence[int], sides: Sequence[Side]) -> list[Pyramid]:
    """One pyramid over all frames whose time axis grows too. Coarse scales read every frame: it does not stream."""
    if len(times) != len(sides):
        raise UsageError(f"{len(times)} times do not fit {len(sides)} sides; give one per scale")
    return [Pyramid(0, tuple((t, h, w) for t, (h, w) in zip(times, sides)))]
