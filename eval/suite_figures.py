"""The figures per start of the suites, for comparisons (eval/paired.py), and the strips that go with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidar.eval.endless_figures import outside
from vidar.eval.endless_measure import EndlessScores, ends
from vidar.eval.outcome import Judged
from vidar.eval.paired import Better, Figures, figures, fingerprint_of, write_strips
from vidar.eval.plots import strip
from vidar.eval.protocol import GAINS, WORLD, span
from vidar.eval.record import span as between
from vidar.eval.world_eval import WorldScores

STRIPS = 16  # starts whose strips are stored
COLUMNS = 8  # frames of a strip


def of_world(scores: WorldScores, context: int, fps: float) -> Figures:
    """The suite world: fidelity, obedience and sharpness of each episode.

    Choice: of PSNR and SSIM the frames of the protocol and the whole dream; over the wrong keys, because a world that
    ignores keys has none of that gain; and how far the mean sharpness is from the game's, as a share of it.
    """
    early, keys = span(WORLD.means), GAINS["shuffled_actions"]
    sharp = {who: scores.looks["sharpness"][who][:, early].mean(1) for who in ("model", "real")}
    over = (scores.psnr["model"] - scores.psnr["shuffled_actions"])[:, span(keys)].mean(1)
    count = scores.real.shape[1]
    values = {
        f"PSNR, dB, frames {between(WORLD.means)}": scores.psnr["model"][:, early].mean(1),
        f"PSNR, dB, frames 1-{count}": scores.psnr["model"].mean(1),
        f"SSIM, frames {between(WORLD.means)}": scores.ssim["model"][:, early].mean(1),
        f"PSNR over the wrong keys, dB, frames {between(keys)}": over,
        f"sharpness, share away from the game's, frames {between(WORLD.means)}": np.abs(
            sharp["model"] / np.maximum(sharp["real"], 1e-12) - 1.0
        ),
    }
    better: dict[str, Better] = dict.fromkeys(values, "higher")
    better[list(values)[-1]] = "lower"
    pairing = {
        **_pairing("world", list(scores.names), context, fps, scores.real),
        "gains": {name: list(frames) for name, frames in GAINS.items()},
        "means": list(WORLD.means),
    }
    return figures(pairing, values, better)


def of_endless(scores: EndlessScores) -> Figures:
    """The suite endless: survival, looks and motion of each rollout."""
    play, count = scores.play, scores.dreamed.shape[1]
    late, real = slice(count // 2, None), play.real_range
    counted = ~play.joins[:, play.context :]
    moved = {who: np.array([row[kept].mean() for row, kept in zip(v, counted)]) for who, v in scores.motion.items()}
    values: dict[str, np.ndarray] = {"frames survived": ends(scores.survival["model"])}
    for name, pair in scores.looks.items():
        values[f"late frames outside the real range of {name}"] = outside(
            pair["model"][:, late], real.looks[name]
        ).mean(1)
    values["motion, grey levels away from the game's"] = np.abs(moved["model"] - moved["real"])
    better: dict[str, Better] = dict.fromkeys(values, "lower")
    better["frames survived"] = "higher"
    starts = [", ".join(names) for names in play.games]
    pairing = {
        **_pairing("endless", starts, play.context, play.fps, scores.real),
        "real_range": {name: [round(float(end), 4) for end in band] for name, band in real.looks.items()},
    }
    return figures(pairing, values, better)


def of_outcome(starts: list[str], judged: Mapping[Any, Sequence[Judged | None]], context: int, fps: float) -> Figures:
    """The suite outcome: squared error of the reward, and Brier score of the end (Brier 1950), of each episode.

    starts: fingerprints of the episodes. judged: recorded, dreamed -> the steps of each episode, None for one that is
    too short. R2 and balanced accuracy belong to all episodes together, so they have no number per episode. An episode
    without a known reward or end has none either.
    """
    values: dict[str, np.ndarray] = {}
    for kind, parts in judged.items():
        rewards = [_error(p.reward, p.found) if p else math.nan for p in parts]
        ended = [_error(p.ended, p.probability) if p else math.nan for p in parts]
        values[f"squared error of the reward, {kind} frames"] = np.array(rewards)
        values[f"Brier score of the end, {kind} frames"] = np.array(ended)
    pairing = {"suite": "outcome", "fps": fps, "context": context, "starts": starts}
    return figures(pairing, values, dict.fromkeys(values, "lower"))


def world_strips(scores: WorldScores, place: Path) -> dict[str, Any]:
    """Write strips of the first episodes, the game above the dream; returns their entries of report.json."""
    return _strips(scores.names, scores.real, scores.dreamed, place)


def endless_strips(scores: EndlessScores, place: Path) -> dict[str, Any]:
    """`world_strips` of the first rollouts, by the names of their games."""
    return _strips([", ".join(names) for names in scores.play.games], scores.real, scores.dreamed, place)


def _strips(names: Sequence[str], real: np.ndarray, dreamed: np.ndarray, place: Path) -> dict[str, Any]:
    shown = np.unique(np.linspace(0, real.shape[1] - 1, COLUMNS).round().astype(int)).tolist()
    pictures = {name: strip((real[e], dreamed[e]), shown, scale=1) for e, name in enumerate(names[:STRIPS])}
    return write_strips(place, pictures, [f"frame {k + 1:,}" for k in shown])


def _pairing(suite: str, starts: list[str], context: int, fps: float, real: np.ndarray) -> dict[str, Any]:
    return {
        "suite": suite,
        "fps": fps,
        "size": list(real.shape[2:4]),
        "context": context,
        "frames": real.shape[1],
        "starts": starts,
        "real_frames": fingerprint_of(real),
    }


def _error(truth: np.ndarray, found: np.ndarray) -> float:
    known = ~np.isnan(truth)
    return float(np.square(truth[known] - found[known]).mean()) if known.any() else math.nan
