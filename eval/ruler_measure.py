"""The measurements of the ruler: one player, dreamed and played, as figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidar.eval.frame_metrics import psnr
from vidar.eval.manifold import Manifold
from vidar.eval.ruler_play import Played

MARKS = (1, 2, 5, 10, 20, 30, 60)  # seconds at which figures and pictures are given
GAPS = (2, 5, 10, 30)  # seconds until a view is seen again
PLACE, ANGLE = 4.0, 4.0  # map units and degrees within which two poses have the same view
AWAY = (48.0, 30.0)  # the view in between is another one: so many units or degrees off
SEGMENT = 2  # seconds


@dataclass(frozen=True)
class PlayerScores:
    """Of E starts and T frames. off: model, real -> bool [E, T], whether a frame is not a picture of this game.

    judged bool [E, T]: frames that the real game reached. truth: model, copy_last -> dB [E, T] against the game under
    the same keys. held dB [E, T]: against the frame at the start. motion: model, real -> mean change of a frame [E, T],
    grey levels. again: seconds -> model, real -> dB [N], views against themselves when seen again.
    """

    off: Mapping[str, np.ndarray]
    judged: np.ndarray
    truth: Mapping[str, np.ndarray]
    held: Mapping[str, np.ndarray]
    motion: Mapping[str, np.ndarray]
    again: Mapping[int, Mapping[str, np.ndarray]]


def measure(dreamed: np.ndarray, played: Played, first: np.ndarray, fps: float, manifold: Manifold) -> PlayerScores:
    """dreamed: uint8 [E, T, H, W, 3]; first: the frames at the starts, uint8 [E, H, W, 3]."""
    views = {"model": dreamed, "real": played.frames}
    still = np.repeat(first[:, None], dreamed.shape[1], axis=1)
    count = dreamed.shape[1]
    judged = np.arange(count) < played.lasted[:, None]
    return PlayerScores(
        off={who: np.stack([manifold.off(frames) for frames in shown]) for who, shown in views.items()},
        judged=judged,
        truth={
            "model": psnr(dreamed, played.frames, 255.0).numpy(),
            "copy_last": psnr(still, played.frames, 255.0).numpy(),
        },
        held={who: psnr(shown, still, 255.0).numpy() for who, shown in views.items()},
        motion={who: _motion(first, shown) for who, shown in views.items()},
        again=_again(views, first, played, fps),
    )


def summary(scores: PlayerScores, fps: float) -> dict[str, Any]:
    """Plain figures of one player; shares are of judged frames, medians are over the starts."""
    count = scores.judged.shape[1]
    marks = [mark for mark in MARKS if mark * fps <= count]
    segment = max(1, round(SEGMENT * fps))

    def share(flags: np.ndarray) -> float:
        return round(float(flags[scores.judged].mean()), 4) if scores.judged.any() else 0.0

    def worst(flags: np.ndarray) -> float:
        parts = [flags[:, n : n + segment][scores.judged[:, n : n + segment]] for n in range(0, count, segment)]
        return round(max((float(part.mean()) for part in parts if len(part)), default=0.0), 4)

    def at(values: np.ndarray, statistic: str = "median") -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for mark in marks:
            frame = round(mark * fps) - 1
            kept = values[scores.judged[:, frame], frame]
            found[str(mark)] = round(float(getattr(np, statistic)(kept)), 2) if len(kept) else None
        return found

    return {
        "off_manifold": {who: share(flags) for who, flags in scores.off.items()},
        "off_manifold_worst_segment": {who: worst(flags) for who, flags in scores.off.items()},
        "truth_db": {who: at(values) for who, values in scores.truth.items()},
        "held_db": {who: at(values) for who, values in scores.held.items()},
        "held_db_worst": {who: at(values, "min") for who, values in scores.held.items()},
        "motion": {who: round(float(values[scores.judged].mean()), 3) for who, values in scores.motion.items()},
        "seen_again_db": {
            str(gap): {"views": len(pair["model"]), **{w: round(float(np.median(v)), 2) for w, v in pair.items()}}
            for gap, pair in scores.again.items()
            if len(pair["model"])
        },
    }


def _motion(first: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Mean absolute change of each frame from the one before, in grey levels: [E, T]."""
    whole = np.concatenate([first[:, None], frames], 1)
    return np.stack([np.abs(np.diff(one.astype(np.int16), axis=0)).mean((1, 2, 3)) for one in whole])


def _again(
    views: Mapping[str, np.ndarray], first: np.ndarray, played: Played, fps: float
) -> dict[int, dict[str, np.ndarray]]:
    """For each gap, PSNR between a view and the same view seen `gap` to twice as many seconds earlier.

    Which frames have the same view, with another one in the middle, is known from the poses of the real game.
    """
    found: dict[int, dict[str, list[float]]] = {gap: {who: [] for who in views} for gap in GAPS}
    for e, poses in enumerate(played.poses):
        whole = {who: np.concatenate([first[e : e + 1], shown[e]]) for who, shown in views.items()}
        for gap in GAPS:
            for now, before in _pairs(poses[: 1 + played.lasted[e]], round(gap * fps)):
                for who, frames in whole.items():
                    found[gap][who].append(
                        float(psnr(frames[None, now : now + 1], frames[None, before : before + 1], 255.0))
                    )
    return {gap: {who: np.array(values) for who, values in pair.items()} for gap, pair in found.items()}


def _pairs(poses: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """(frame, earlier frame) with the same pose, `gap` to 2 gap - 1 frames apart, and another pose halfway.

    Each frame has at most one pair, the one that is closest in pose.
    """
    found = []
    for now in range(gap, len(poses)):
        before = np.arange(max(0, now - 2 * gap + 1), now - gap + 1)
        place, angle = _apart(poses[now], poses[before])
        middle = _apart(poses[now], poses[(before + now) // 2])
        same = (place <= PLACE) & (angle <= ANGLE) & ((middle[0] >= AWAY[0]) | (middle[1] >= AWAY[1]))
        if same.any():
            found.append((now, int(before[np.argmin(np.where(same, place + angle, np.inf))])))
    return found


def _apart(pose: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in map units and angle in degrees between a pose [4] (x, y, z, angle) and others [N, 4]."""
    turned = np.abs((others[:, 3] - pose[3] + 180.0) % 360.0 - 180.0)
    return np.linalg.norm(others[:, :2] - pose[:2], axis=1), turned
