"""Action following in the ruler: turns, steps and latency of a row beside the true motion of the game."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vidar.eval.following import LEAST, errors, latencies, latency, seconds, true_motion
from vidar.eval.ruler_measure import REAL, PlayerScores
from vidar.nn.inverse_dynamics import Axis
from vidar.nn.pose import AXES

Players = Mapping[str, PlayerScores]


def readable(players: Players) -> bool:
    """Whether motion was read from the pictures."""
    return all(np.isfinite(scores.rows[REAL].read).all() for scores in players.values())


def motion_parts(players: Players, row: str, fps: float) -> dict[str, np.ndarray]:
    """Parts of the likeness for each start, [E] each; NaN where nothing can be judged.

    turns, steps: 1 less half the error per second relative to that of a frozen picture, over the seconds in which the
    game ends elsewhere than it began: 1/2 for a frozen picture, 0 for the opposite motion. turns is over the means of
    the seconds, steps over their medians, because a wall may stop the dream where the game is free. prompt: 1 / (1 +
    frames by which the latency differs from the game's), 0 without a latency. All are relative to what is read from the
    game itself.
    """
    own = {
        name: np.nanmean(part) if np.isfinite(part).any() else np.nan for name, part in _raw(players, REAL, fps).items()
    }
    return {name: part / own[name] for name, part in _raw(players, row, fps).items()}


def motion_figures(scores: PlayerScores, row: str, fps: float) -> dict[str, Any]:
    """Turn and step errors (`errors`) and the latency of each axis (`latencies`) of one player."""
    read, true = scores.rows[row].read, true_motion(scores.poses)
    keys: dict[Axis, np.ndarray] = {
        axis: scores.keys[..., n] for n, axis in enumerate(AXES) if np.isfinite(scores.keys[..., n]).all()
    }
    found = errors(read, true, scores.turning, scores.walking, fps)
    return {**found, "latency": latencies(read, keys, scores.followed)}


def shuffled_keys(players: Players, row: str, fps: float) -> dict[str, float | None]:
    """The parts of `motion_parts`, over all starts, for the motion read from the row of the player before each one.

    These are keys that do not fit: what a dream would have that moves as games do but does not follow.
    """
    found = motion_parts(_shuffled(players, row), row, fps)
    return {
        name: round(float(np.nanmean(part)), 4) if np.isfinite(part).any() else None for name, part in found.items()
    }


def _shuffled(players: Players, row: str) -> dict[str, PlayerScores]:
    names, mixed = list(players), {}
    for name, before in zip(names, [names[-1], *names[:-1]]):
        one, other = players[name], players[before].rows[row].read
        count = one.judged.shape[1]
        read = other[:, np.arange(count) % other.shape[1]]
        mixed[name] = replace(one, rows={REAL: one.rows[REAL], row: replace(one.rows[row], read=read)})
    return mixed


def _raw(players: Players, row: str, fps: float) -> dict[str, np.ndarray]:
    count = len(next(iter(players.values())).judged)
    found = {"turns": _followed(players, row, fps, "turn"), "steps": _followed(players, row, fps, "step")}
    return {**found, "prompt": np.array([_prompt(players, row, start) for start in range(count)])}


def _followed(players: Players, row: str, fps: float, what: str) -> np.ndarray:
    """1 less half the relative error of turns or steps, for each start."""
    axes, middle = (slice(0, 1), np.mean) if what == "turn" else (slice(1, 3), np.median)
    off, moved = list[np.ndarray](), list[np.ndarray]()
    for scores in players.values():
        true = true_motion(scores.poses)
        judged = scores.turning if what == "turn" else scores.walking
        whole = seconds(~judged * 1, fps) == 0
        game = np.linalg.norm(seconds(true[..., axes], fps), axis=-1)
        error = np.linalg.norm(seconds((scores.rows[row].read - true)[..., axes], fps), axis=-1)
        kept = whole & (game >= LEAST[what])
        off.append(np.where(kept, error, np.nan))
        moved.append(np.where(kept, game, np.nan))
    found = []
    for error, game in zip(np.concatenate(off, 1), np.concatenate(moved, 1)):
        there = np.isfinite(error)
        found.append(max(0.0, 1.0 - middle(error[there]) / (2 * middle(game[there]))) if there.any() else np.nan)
    return np.array(found)


def _prompt(players: Players, row: str, start: int) -> float:
    """The mean over players and axes whose keys change and move the game."""
    found = []
    for scores in players.values():
        one = slice(start, start + 1)
        for n in range(len(AXES)):
            key, played = scores.keys[one, :, n], scores.followed[one]
            if not np.isfinite(key).all():
                continue
            game, other = (latency(key, scores.rows[who].read[one, :, n], played) for who in (REAL, row))
            if game is not None:
                found.append(0.0 if other is None else 1.0 / (1 + abs(other - game)))
    return float(np.mean(found)) if found else np.nan
