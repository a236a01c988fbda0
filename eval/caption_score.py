"""Whether a video shows what its caption says: the protocol of a scorer, and an exact one for the world of shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from vidar.data.synthetic import BACKGROUND, COLOURS, DIRECTION, DISTANCES, KINDS, MOVES
from vidar.types import UsageError


class CaptionScorer(Protocol):
    """Checks every claim of a caption. Caption accuracy is the share of true claims, averaged over videos."""

    def __call__(self, video: np.ndarray, caption: str) -> Mapping[str, bool]:
        """uint8 [T, H, W, 3] and its caption -> each claim, in its words, and whether the video shows it."""
        ...


PALETTE = np.array([*COLOURS.values()], np.float64) - BACKGROUND  # [8, 3], from the background
AREAS = {"circle": np.pi, "square": 4.0, "triangle": 27**0.5 / 4, "ring": 0.75 * np.pi}  # of radius 1
OFF = 45.0  # grey levels that a pixel may be off the line from the background to a colour
FAINT = 0.1  # cover below this is background
LEAST = 0.01  # area of a shape that can be judged, in squares of the shorter side; the smallest shape has 0.013
FRAMES = 3  # with the best fit, over which the error of a kind is averaged: in others the shape may be covered
FIT = 0.35  # largest error of a shape, as a share of its area
SHAPE = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(KINDS)})\b")
MOVE = re.compile(rf"\b(stays|moves ({'|'.join(MOVES[1:])}))\b")


class ShapesScorer:
    """Reads colour, kind and movement from the pixels of the world of shapes; nothing is learned.

    A colour's pixels lie on the line from the background to it; the kind is the one whose drawing with the same centre
    and area differs least, in the three best frames. The white shape moves in the direction in which it is displaced
    most often. A caption that tells of keys pressed against a wall is therefore not true of its video.
    """

    def __call__(self, video: np.ndarray, caption: str) -> Mapping[str, bool]:
        """See `CaptionScorer`. Raises UsageError for other arrays, or a caption without such a claim."""
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3:
            raise UsageError(f"a video is uint8 [T, H, W, 3], not {video.dtype} {list(video.shape)}")
        named, moved = SHAPE.findall(caption), MOVE.search(caption)
        if not named and moved is None:
            raise UsageError(f"caption {caption!r} names no colour with a kind, and no movement")
        covers = _covers(video)
        claims = {f"{colour} {kind}": kind_of(covers[:, list(COLOURS).index(colour)]) == kind for colour, kind in named}
        if moved is not None:
            claims[f"white {moved[1]}"] = movement(covers[:, 0]) == (moved[2] or "stay")
        return claims


def kind_of(covers: np.ndarray) -> str | None:
    """The kind of the shape with these covers [T, H, W]; None if there is no shape of one of the kinds."""
    errors = [found for cover in covers if (found := _errors(cover)) is not None]
    if not errors:
        return None
    best = np.sort(np.array(errors), axis=0)[:FRAMES].mean(0)  # [kinds]
    return KINDS[int(best.argmin())] if best.min() <= FIT else None


def movement(covers: np.ndarray) -> str:
    """The name in MOVES of the direction in which a shape [T, H, W] is displaced most often, or "stay"."""
    places = np.array([_centre(cover) if cover.sum() > 0 else (np.nan, np.nan) for cover in covers])
    steps, least = np.diff(places, axis=0), min(covers.shape[1:]) / 32  # half a step of the player
    counts = [int((steps @ direction > least).sum()) for direction in DIRECTION[1:]]
    return MOVES[1 + int(np.argmax(counts))] if any(counts) else MOVES[0]


def _covers(video: np.ndarray) -> np.ndarray:
    """How much of each pixel each colour covers: float64 [T, 8, H, W]; a pixel belongs to one colour."""
    found = np.zeros((len(video), len(PALETTE), *video.shape[1:3]))
    for cover, frame in zip(found, video):
        pixels = frame.astype(np.float64) - BACKGROUND  # [H, W, 3]
        share = np.clip(pixels @ PALETTE.T / (PALETTE**2).sum(1), 0.0, 1.0)  # [H, W, 8]
        off = np.sqrt(((pixels[:, :, None] - share[..., None] * PALETTE) ** 2).sum(-1))
        own = (off.argmin(-1)[..., None] == np.arange(len(PALETTE))) & (off < OFF) & (share > FAINT)
        cover[:] = np.where(own, share, 0.0).transpose(2, 0, 1)
    return found


def _centre(cover: np.ndarray) -> tuple[float, float]:
    """Centre of mass (x, y) in pixels."""
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]] + 0.5
    total = cover.sum()
    return float((x * cover).sum() / total), float((y * cover).sum() / total)


def _errors(cover: np.ndarray) -> list[float] | None:
    """Difference to a drawing of each kind of the same centre and area, as a share of the area; None: too small."""
    area = float(cover.sum())
    if area < LEAST * min(cover.shape) ** 2:
        return None
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]] + 0.5
    across, down = _centre(cover)
    drawn = (DISTANCES[kind](x - across, y - down, (area / AREAS[kind]) ** 0.5) for kind in KINDS)
    return [float(np.abs(np.clip(0.5 - distance, 0, 1) - cover).sum() / area) for distance in drawn]
