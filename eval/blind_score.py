"""`vidar eval blind-score`: the answers of people against the key of their page."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

from vidar.eval.blind_page import KEY, VERSION
from vidar.types import UsageError, VidarError

WIDE = NormalDist().inv_cdf(0.975)
SIDES = ("left", "right")


@dataclass(frozen=True)
class Share:
    """k of n answers are correct (or prefer model A), with Wilson's 95 % interval and the binomial p-value against 1/2.

    unanswered: trials that were shown and not answered. share, low, high, p: None without answers.
    """

    hits: int
    count: int
    unanswered: int
    share: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Answers:
    """What one person said: trial -> side, and the seconds from the end of the clip to the answer."""

    file: Path
    rater: str
    choices: Mapping[str, str]
    seconds: Sequence[float]


def run(key: str | os.PathLike[str], answers: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """Score files of answers. key: key.json, or its folder.

    Returns shares of correct answers (of answers that prefer A, for two models): all, by length of the clips, by rater
    and by player. Raises UsageError or VidarError in one line for a file of another page, a damaged one, and a rater
    that occurs twice.
    """
    told = _key(key)
    trials: Mapping[str, Mapping[str, Any]] = told["trials"]
    if not answers:
        raise UsageError("no answers: vidar eval blind-score DIR answers-*.json")
    read = [_answers(Path(file), told) for file in answers]
    _different(read)
    every = [(trial, rater) for rater in read for trial in trials]

    def part(wanted: Iterable[tuple[str, Answers]]) -> dict[str, Any]:
        hits = [_hit(rater, trial, trials) for trial, rater in wanted]
        return asdict(
            share_of(sum(hit is True for hit in hits), sum(hit is not None for hit in hits), hits.count(None))
        )

    lengths = sorted({float(trial["seconds"]) for trial in trials.values()})
    who = dict.fromkeys(str(trial["player"]) for trial in trials.values())
    return {
        "kind": told["kind"],
        "share_of": "answers that are correct"
        if told["kind"] == "real"
        else f"answers that prefer {told['models']['A']}",
        "models": told["models"],
        "raters": len(read),
        "all": part(every),
        "by_seconds": {f"{s:g}": part(pair for pair in every if trials[pair[0]]["seconds"] == s) for s in lengths},
        "by_rater": {rater.rater: part((trial, rater) for trial in trials) for rater in read},
        "by_player": {name: part(pair for pair in every if trials[pair[0]]["player"] == name) for name in who},
        "median_seconds": round(median([s for rater in read for s in rater.seconds] or [math.nan]), 3),
    }


def share_of(hits: int, count: int, unanswered: int = 0) -> Share:
    """A share with its interval and p-value."""
    if count == 0:
        return Share(0, 0, unanswered, None, None, None, None)
    low, high = wilson(hits, count)
    return Share(hits, count, unanswered, hits / count, low, high, binomial_p(hits, count))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927): ends p with |hits / count - p| = z sqrt(p (1 - p) / count)."""
    square, share = WIDE * WIDE / count, hits / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square * square / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def binomial_p(hits: int, count: int) -> float:
    """Two-sided exact p-value of `hits` of `count` under chance 1/2, in whole numbers until the last division."""
    tail = sum(math.comb(count, k) for k in range(min(hits, count - hits) + 1))
    return min(2 * tail, 2**count) / 2**count


def _hit(rater: Answers, trial: str, trials: Mapping[str, Mapping[str, Any]]) -> bool | None:
    side = rater.choices.get(trial)
    return None if side is None else side == trials[trial]["answer"]


def _key(path: str | os.PathLike[str]) -> dict[str, Any]:
    file = Path(path) / KEY if Path(path).is_dir() else Path(path)
    told = _json(file)
    if told.get("version") != VERSION or not isinstance(told.get("trials"), dict) or "page" not in told:
        raise VidarError(f"{file}: is not the key of a blind test; give the {KEY} that `vidar eval blind` wrote")
    return told


def _answers(file: Path, key: Mapping[str, Any]) -> Answers:
    """Raises VidarError naming the file and what is wrong with it."""
    told = _json(file)
    if told.get("vidar") != "blind answers" or told.get("version") != 1 or not isinstance(told.get("answers"), list):
        raise VidarError(f"{file}: holds no answers of a blind test; give the file that the page saved")
    if told.get("page") != key["page"]:
        raise VidarError(f"{file}: its answers are of another page; score them with the key of that page")
    rater = str(told.get("rater", "")).strip()
    if not rater:
        raise VidarError(f"{file}: does not name its rater")
    choices: dict[str, str] = {}
    seconds: list[float] = []
    for number, answer in enumerate(told["answers"], 1):
        said: dict[str, Any] = answer if isinstance(answer, dict) else {}
        trial, side = str(said.get("trial")), str(said.get("choice"))
        if trial not in key["trials"] or side not in SIDES:
            raise VidarError(f"{file}: answer {number} is of no trial of this page, or of no side")
        if trial in choices:
            raise VidarError(f"{file}: trial {trial} is answered twice")
        choices[trial] = side
        if isinstance(said.get("seconds"), int | float):
            seconds.append(float(said["seconds"]))
    return Answers(file, rater, choices, seconds)


def _different(read: Sequence[Answers]) -> None:
    seen: dict[str, Answers] = {}
    for one in read:
        before = seen.setdefault(one.rater.casefold(), one)
        if before is not one:
            raise UsageError(f"{one.file}: rater {one.rater!r} is also that of {before.file}; give each person once")


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise VidarError(f"{file}: no such file")
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        raise VidarError(f"{file}: is not JSON") from None
    if not isinstance(content, dict):
        raise VidarError(f"{file}: is no JSON object")
    return content
