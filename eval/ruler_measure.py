"""The measurements of the ruler: one player in the game, in the dream and in the baselines, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from vidar.data.atomic import replacing
from vidar.eval.frame_metrics import psnr, sharpness
from vidar.eval.manifold import Manifold
from vidar.eval.ruler_play import Played
from vidar.eval.ruler_reader import MotionReader

GAPS = (2, 5, 10, 30)  # seconds until a view is seen again
PLACE, ANGLE = 4.0, 4.0  # map units and degrees within which two poses have the same view
AWAY = (48.0, 30.0)  # the view in between is another one: so many units or degrees off
DENSE, SPARSE = 10, 5  # seconds in which every frame is judged; after them, every SPARSE-th, and a second of so many
LEVELS = 4  # of a colour channel in the histogram
REAL = "real"
COMMON = ("judged", "looked", "keys", "followed", "turning", "walking", "poses")  # what all rows of a player share


@dataclass(frozen=True)
class RowScores:
    """One row (the game, a dream, a baseline) of E starts and T frames, of which S are looked at closely.

    score float64 [E, S]: by the manifold; sharp float64 [E, S]; colours int64 [E, LEVELS^3]: histogram over the judged
    frames of S; truth, held float64 [E, T]: dB against the game under the same keys, and against the frame at the
    start; motion, jump float64 [E, T]: of a frame and the one before, mean change in grey levels, and share of the
    colour histogram that has moved; again [N, 5]: for each view that is seen again, start, gap in seconds, dB, distance
    in the features of the manifold, and `kept_share`. read float64 [E, T, 3]: turn in degrees, ahead and left in map
    units of each frame, read from the pictures; 0 where it is not read, NaN without a pose network.
    """

    score: np.ndarray
    sharp: np.ndarray
    colours: np.ndarray
    truth: np.ndarray
    held: np.ndarray
    motion: np.ndarray
    jump: np.ndarray
    again: np.ndarray
    read: np.ndarray


@dataclass(frozen=True)
class PlayerScores:
    """rows: by name. judged bool [E, T]: frames that the real game reached. looked int [S]: numbers of the S frames.

    keys float64 [E, T, 3]: the turn, the way ahead and to the left that the keys ask for, 1, 0 or -1; NaN for an axis
    without keys. followed bool [E, T]: judged steps whose motion is read, see `watched`; turning, walking bool [E, T]:
    those whose turn and whose way are judged, because they can be read from the game's own pictures, and no wall
    changed the way. poses float32 [E, 1 + T, 4] of the game.
    """

    rows: Mapping[str, RowScores]
    judged: np.ndarray
    looked: np.ndarray
    keys: np.ndarray
    followed: np.ndarray
    turning: np.ndarray
    walking: np.ndarray
    poses: np.ndarray

    def save(self, file: Path) -> None:
        """Write all arrays into one .npz file."""
        arrays = {name: getattr(self, name) for name in COMMON}
        for name, row in self.rows.items():
            arrays |= {f"{name}/{field.name}": getattr(row, field.name) for field in fields(RowScores)}
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **arrays)

    @staticmethod
    def load(file: Path) -> PlayerScores:
        """Raises OSError, ValueError or KeyError for a file that is damaged."""
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        names = list(dict.fromkeys(name.rpartition("/")[0] for name in arrays if "/" in name))
        rows = {
            name: RowScores(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(RowScores)})
            for name in names
        }
        return PlayerScores(rows, *(arrays[name] for name in COMMON))


def measure(
    views: Mapping[str, np.ndarray],
    played: Played,
    first: np.ndarray,
    fps: float,
    manifold: Manifold,
    reader: MotionReader | None = None,
) -> PlayerScores:
    """views: the rows beside the game, uint8 [E, T, H, W, 3] each; first: the frames at the starts, [E, H, W, 3]."""
    count = played.frames.shape[1]
    judged = np.arange(count) < played.lasted[:, None]
    looked = closely(count, fps)
    listed = [pairs(poses[: 1 + lasted], fps) for poses, lasted in zip(played.poses, played.lasted)]
    still = np.repeat(first[:, None], count, axis=1)
    rows, clear = {}, dict[str, np.ndarray]()
    for name, shown in {REAL: played.frames, **views}.items():
        seen, whole = shown[:, looked], np.concatenate([first[:, None], shown], 1)
        read = np.full((*shown.shape[:2], 3), np.nan)
        if reader is not None:
            read, visible = _read(reader, whole, watched(count, fps))
            clear = visible if name == REAL else clear
        rows[name] = RowScores(
            score=np.stack([_scores(manifold, frames) for frames in seen]),
            sharp=sharpness(seen).numpy(),
            colours=np.stack([_histogram(frames[there]) for frames, there in zip(seen, judged[:, looked])]),
            truth=psnr(shown, played.frames, 255.0).numpy(),
            held=psnr(shown, still, 255.0).numpy(),
            motion=_motion(whole),
            jump=_jump(whole),
            again=_again(whole, listed, manifold),
            read=read,
        )
    followed = judged & watched(count, fps)
    if reader is None:
        keys, turning, walking = np.full((*judged.shape, 3), np.nan), followed, followed
    else:
        keys = reader.keys(played.table)
        turning, walking = followed & clear["turn"], followed & clear["step"] & reader.free(played.poses, keys)
    return PlayerScores(rows, judged, looked, keys, followed, turning, walking, played.poses)


def closely(count: int, fps: float) -> np.ndarray:
    """Numbers of the frames that are looked at: all of the first DENSE seconds, then each SPARSE-th."""
    dense = min(count, round(DENSE * fps))
    return np.concatenate([np.arange(dense), np.arange(dense, count, SPARSE)])


def watched(count: int, fps: float) -> np.ndarray:
    """Steps whose motion is read, bool [T]: all of the first DENSE seconds, then the last second of each SPARSE."""
    second, dense = max(1, round(fps)), round(DENSE * fps)
    step = np.arange(count)
    return (step < dense) | ((step - dense) // second % SPARSE == SPARSE - 1)


def _read(reader: MotionReader, whole: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`MotionReader.read` of uint8 [E, 1 + T, H, W, 3] at the wanted steps, bool [T]; 0 and not visible elsewhere."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    moved, visible = np.zeros((len(whole), len(wanted), 3)), dict[str, np.ndarray]()
    for begin, end in zip(edges[::2], edges[1::2]):
        moved[:, begin:end], seen = reader.read(whole[:, begin : end + 1])
        for what, flags in seen.items():
            visible.setdefault(what, np.zeros((len(whole), len(wanted)), bool))[:, begin:end] = flags
    return moved, visible


def _scores(manifold: Manifold, frames: np.ndarray) -> np.ndarray:
    """The scores of frames; equal neighbours are judged once."""
    new = np.ones(len(frames), bool)
    new[1:] = (frames[1:] != frames[:-1]).any((1, 2, 3))
    return manifold.scores(frames[new])[np.cumsum(new) - 1]


def _histogram(frames: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] -> counts of the colours, int64 [LEVELS^3]."""
    red, green, blue = np.moveaxis(frames.astype(np.int64) * LEVELS // 256, -1, 0)
    return np.bincount((red * LEVELS + green).ravel() * LEVELS + blue.ravel(), minlength=LEVELS**3)


def _motion(whole: np.ndarray) -> np.ndarray:
    """uint8 [E, 1 + T, H, W, 3] -> mean absolute change of each frame from the one before, in grey levels: [E, T]."""
    return np.stack([np.abs(np.diff(one.astype(np.int16), axis=0)).mean((1, 2, 3)) for one in whole])


def _jump(whole: np.ndarray) -> np.ndarray:
    """uint8 [E, 1 + T, H, W, 3] -> share of the colour histogram that is elsewhere than in the frame before: [E, T]."""
    counts = np.stack([np.stack([_histogram(frame) for frame in one]) for one in whole])
    return np.abs(np.diff(counts, axis=1)).sum(-1) / (2 * whole.shape[2] * whole.shape[3])


def _again(whole: np.ndarray, listed: list[list[tuple[int, int, int]]], manifold: Manifold) -> np.ndarray:
    """For each pair, the view beside the same view of the same row: [N, 5] as in `RowScores`."""
    found = [(e, gap, now, before) for e, some in enumerate(listed) for gap, now, before in some]
    if not found:
        return np.zeros((0, 5))
    starts, gaps, nows, befores = np.array(found).T
    now, before, between = (whole[starts, numbers] for numbers in (nows, befores, (befores + nows) // 2))
    decibel = psnr(now[:, None], before[:, None], 255.0).numpy()[:, 0]
    return np.stack([starts, gaps, decibel, manifold.apart(now, before), kept_share(now, before, between)], 1)


def kept_share(now: np.ndarray, before: np.ndarray, between: np.ndarray) -> np.ndarray:
    """How far a view that is seen again is the one seen before, frames uint8 [N, H, W, 3] -> float64 [N].

    1 - |now - before|^2 / |now - between|^2, at least 0, and 0 where the view between them is the same picture: a
    picture that never leaves a view does not return to it.
    """
    error, whole = (((now.astype(np.int64) - other) ** 2).reshape(len(now), -1).sum(1) for other in (before, between))
    return np.where(whole > 0, np.maximum(0.0, 1.0 - error / np.maximum(whole, 1)), 0.0)


def pairs(poses: np.ndarray, fps: float) -> list[tuple[int, int, int]]:
    """(gap in seconds, frame, earlier frame) with the same pose of the real game and another pose halfway.

    A pair of gap g is g to 2 g seconds apart; each frame has at most one of each gap, the closest in pose.
    """
    found = []
    for seconds in GAPS:
        gap = round(seconds * fps)
        for now in range(gap, len(poses)):
            before = np.arange(max(0, now - 2 * gap + 1), now - gap + 1)
            place, angle = apart(poses[now], poses[before])
            middle = apart(poses[now], poses[(before + now) // 2])
            same = (place <= PLACE) & (angle <= ANGLE) & ((middle[0] >= AWAY[0]) | (middle[1] >= AWAY[1]))
            if same.any():
                found.append((seconds, now, int(before[np.argmin(np.where(same, place + angle, np.inf))])))
    return found


def apart(pose: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in map units and angle in degrees between a pose [4] (x, y, z, angle) and others [N, 4]."""
    turned = np.abs((others[:, 3] - pose[3] + 180.0) % 360.0 - 180.0)
    return np.linalg.norm(others[:, :2] - pose[:2], axis=1), turned
