"""The figures of the ruler: of every player and row, and the likeness of each row to the real game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidar.eval.frame_metrics import MOST_DB
from vidar.eval.ruler_measure import GAPS, REAL, PlayerScores, RowScores
from vidar.eval.ruler_motion import motion_figures, motion_parts, readable
from vidar.eval.ruler_worker import COPY

SEGMENT = 2  # seconds
MARKS = (0, 1, 2, 5, 10, 20, 30, 60)  # seconds at which figures and pictures are given
FLOOR = 0.01  # of a part of the likeness
QUIET = 1.0  # grey levels added to both motions before they are compared
RESAMPLES = 2000

Players = Mapping[str, PlayerScores]


def player_figures(scores: PlayerScores, row: str, threshold: float, fps: float) -> dict[str, Any]:
    """Plain figures of one player and row; shares are of judged frames, medians are over the starts."""
    one, looked = scores.rows[row], scores.judged[:, scores.looked]
    off = one.score > threshold
    count = scores.judged.shape[1]
    marks = [mark for mark in MARKS if 0 < mark * fps <= count]
    parts = [_within(scores, begin, fps) for begin in range(0, round(count / fps), SEGMENT)]
    shares = [float(off[:, part][looked[:, part]].mean()) for part in parts if looked[:, part].any()]

    def at(values: np.ndarray, statistic: str = "median") -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for mark in marks:
            frame = round(mark * fps) - 1
            kept = values[scores.judged[:, frame], frame]
            found[str(mark)] = round(float(getattr(np, statistic)(kept)), 2) if len(kept) else None
        return found

    return {
        "off_manifold": round(float(off[looked].mean()), 4) if looked.any() else 0.0,
        "off_manifold_worst_segment": round(max(shares, default=0.0), 4),
        "survived_s": round(float(np.mean(survival(scores, row, threshold, fps))), 2),
        "truth_db": at(one.truth),
        "held_db": at(one.held),
        "held_db_worst": at(one.held, "min"),
        "motion": round(float(one.motion[scores.judged].mean()), 3),
        "seen_again": _seen_again(one),
        **({"following": motion_figures(scores, row, fps)} if np.isfinite(one.read).all() else {}),
    }


def survival(scores: PlayerScores, row: str, threshold: float, fps: float) -> np.ndarray:
    """Seconds [E] until the first segment of which more than half of the frames are off the manifold."""
    off = scores.rows[row].score > threshold
    lasted = scores.judged.sum(1) / fps
    for begin in range(0, round(scores.judged.shape[1] / fps), SEGMENT):
        gone = off[:, _within(scores, begin, fps)].mean(1) > 0.5
        lasted[gone] = np.minimum(lasted[gone], begin)
    return lasted


def likeness_parts(players: Players, row: str, threshold: float, fps: float) -> dict[str, np.ndarray]:
    """The parts of the likeness for each start, [E] each; 1 for the real game, NaN where nothing can be judged.

    picture: share of frames on the manifold, relative to the game. sharp, moves: the smaller over the larger of row and
    game, of the sharpness and of the change per frame. colours: shared part of the colour histograms. steady: 1 /
    (1 + cuts in ten seconds), see `_cuts`. begins: share of the squared error of the last frame that is explained in
    the first second. returns: `kept_share` of a view that is seen again, relative to the game, at most 1. turns, steps,
    prompt: see `motion_parts`. All players count equally.
    """
    everything = [(scores, scores.rows[row], scores.rows[REAL]) for scores in players.values()]
    on = {
        who: np.mean([_on(scores, scores.rows[who], threshold) for scores in players.values()], 0)
        for who in (row, REAL)
    }
    second = max(1, round(fps))
    error = {
        who: np.sum([_squares(scores.rows[who].truth[:, :second]).sum(1) for scores in players.values()], 0)
        for who in (row, COPY)
    }
    return {
        "picture": on[row] / on[REAL].mean(),
        "sharp": np.mean([_alike(_mean(s, one.sharp), _mean(s, real.sharp)) for s, one, real in everything], 0),
        "colours": np.mean([_shared(one.colours, real.colours) for _, one, real in everything], 0),
        "moves": np.mean([_alike(_moved(s, one) + QUIET, _moved(s, real) + QUIET) for s, one, real in everything], 0),
        "steady": 1 / (1 + _cuts(players, row, fps)),
        "begins": np.clip(1 - error[row] / error[COPY], 0, 1),
        "returns": _returns(players, row, len(on[row])),
        **(motion_parts(players, row, fps) if readable(players) else {}),
    }


def likeness(parts: Mapping[str, np.ndarray], starts: Sequence[int] | np.ndarray | None = None) -> float:
    """Geometric mean of the parts, each averaged over the starts and in [FLOOR, 1]; unmeasured parts are left out."""
    means = [value for value in (_average(part, starts) for part in parts.values()) if value is not None]
    return float(np.exp(np.mean(np.log(np.clip(means, FLOOR, 1.0))))) if means else float("nan")


def likeness_interval(parts: Mapping[str, np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval over the starts."""
    random = np.random.Generator(np.random.Philox(seed))
    count = len(next(iter(parts.values())))
    drawn = [likeness(parts, random.integers(0, count, count)) for _ in range(RESAMPLES)]
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def row_figures(players: Players, row: str, threshold: float, fps: float) -> dict[str, Any]:
    """The likeness of a row with its interval and parts, its share on the manifold, and its worst player."""
    parts = likeness_parts(players, row, threshold, fps)
    on = {name: float(_on(scores, scores.rows[row], threshold).mean()) for name, scores in players.items()}
    worst = min(on, key=lambda name: on[name])
    return {
        "likeness": round(likeness(parts), 4),
        "interval": [round(value, 4) for value in likeness_interval(parts)],
        "parts": {name: None if (mean := _average(part)) is None else round(mean, 4) for name, part in parts.items()},
        "on_manifold": round(float(np.mean(list(on.values()))), 4),
        "worst_player": {"name": worst, "on_manifold": round(on[worst], 4)},
    }


def on_manifold_by_second(players: Players, row: str, threshold: float, fps: float) -> np.ndarray:
    """Share of frames on the manifold for each start and second, over all players that play so long: [E, S]."""
    longest = max(round(scores.judged.shape[1] / fps) for scores in players.values())
    found = []
    for second in range(longest):
        values = []
        for scores in players.values():
            frames = _within(scores, second, fps, 1)
            there = scores.judged[:, scores.looked[frames]]
            if there.any():
                on = np.where(there, scores.rows[row].score[:, frames] <= threshold, np.nan)
                values.append(on)
        found.append(np.nanmean(np.concatenate(values, 1), 1) if values else np.full(len(found[0]), np.nan))
    return np.stack(found, 1)


def _squares(decibel: np.ndarray) -> np.ndarray:
    """Squared errors of PSNRs, as shares of the squared range; 0 at the largest PSNR."""
    return np.maximum(10 ** (-decibel / 10) - 10 ** (-MOST_DB / 10), 0.0)


def _within(scores: PlayerScores, begin: float, fps: float, length: float = SEGMENT) -> np.ndarray:
    """Places in `looked` of the frames from second `begin` on; frame n is (n + 1) / fps seconds after the start."""
    seconds = (scores.looked + 1) / fps
    return np.flatnonzero((seconds > begin) & (seconds <= begin + length))


def _on(scores: PlayerScores, one: RowScores, threshold: float) -> np.ndarray:
    return _mean(scores, (one.score <= threshold).astype(np.float64))


def _mean(scores: PlayerScores, values: np.ndarray) -> np.ndarray:
    """Mean over the judged frames among those looked at: [E, S] -> [E]."""
    there = scores.judged[:, scores.looked]
    return (values * there).sum(1) / np.maximum(there.sum(1), 1)


def _moved(scores: PlayerScores, one: RowScores) -> np.ndarray:
    return (one.motion * scores.judged).sum(1) / np.maximum(scores.judged.sum(1), 1)


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smaller over the larger of two positive values."""
    return np.minimum(a, b) / np.maximum(np.maximum(a, b), 1e-12)


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Histograms [E, K] -> shared share [E]."""
    x, y = (h / np.maximum(h.sum(1, keepdims=True), 1) for h in (a, b))
    return np.minimum(x, y).sum(1)


def _cuts(players: Players, row: str, fps: float) -> np.ndarray:
    """Cuts in ten seconds, for each start: frames whose colours change more than those of any frame of the game."""
    most = max(float(scores.rows[REAL].jump[scores.judged].max(initial=0)) for scores in players.values())
    cuts = sum(((scores.rows[row].jump > most) & scores.judged).sum(1) for scores in players.values())
    seconds = sum(scores.judged.sum(1) for scores in players.values()) / fps
    return cuts / np.maximum(seconds, 1 / fps) * 10


def _returns(players: Players, row: str, count: int) -> np.ndarray:
    """Of each start, the mean over its views seen again; NaN for a start without any that the game keeps."""
    start = np.concatenate([scores.rows[REAL].again[:, 0] for scores in players.values()])
    ours, real = (np.concatenate([scores.rows[who].again[:, 4] for scores in players.values()]) for who in (row, REAL))
    whole = np.array([real[start == e].sum() for e in range(count)])
    kept = np.array([ours[start == e].sum() for e in range(count)])
    return np.where(whole > 0, np.minimum(1, kept / np.where(whole > 0, whole, 1)), np.nan)


def _average(part: np.ndarray, starts: Sequence[int] | np.ndarray | None = None) -> float | None:
    chosen = part if starts is None else part[np.asarray(starts)]
    return None if np.isnan(chosen).all() else float(np.nanmean(chosen))


def _seen_again(one: RowScores) -> dict[str, Any]:
    found = {}
    for gap in GAPS:
        kept = one.again[one.again[:, 1] == gap]
        if len(kept):
            decibel, apart = (round(float(np.median(kept[:, column])), 2) for column in (2, 3))
            found[str(gap)] = {"views": len(kept), "db": decibel, "features": apart}
    return found
