"""The report of the suite `endless`: its figures as plain JSON, and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidar.eval.endless_figures import Line, outside
from vidar.eval.endless_measure import EndlessScores, FrameTimes, ends
from vidar.eval.plots import Curve, curves, strip
from vidar.eval.report import Card, Mood, Section, image, page, plot, table

UNITS = {"brightness": "mean luma", "contrast": "deviation of luma", "sharpness": "variance of the Laplacian"}
TONE = {"model": 0, "real": 2}
EVERY = 250  # frames between the pictures of a strip
KEPT = 50  # frames per value of the curves in report.json


def summary(scores: EndlessScores, found: Mapping[str, Line], times: FrameTimes | None) -> dict[str, Any]:
    """Plain JSON: criteria with their limits, survival, ranges, curves (means over rollouts and 50 frames), memory."""
    real = scores.play.real_range
    lasted = {who: ends(causes) for who, causes in scores.survival.items()}
    milliseconds = {} if times is None else {"young": np.median(times.young), "old": np.median(times.old)}
    return _plain(
        {
            "passed": {name: line.passed for name, line in found.items()},
            "lines": {name: _line(line) for name, line in found.items()},
            "survival": {
                "mean": lasted["model"].mean(),
                "per_rollout": lasted["model"],
                "looks": scores.survival["model"]["looks"],
                "still": scores.survival["model"]["still"],
                "real_mean": lasted["real"].mean(),
                "real_per_rollout": lasted["real"],
            },
            "real_range": {**real.looks, "still": real.still, "frames": real.frames},
            "curves": {
                "frames_per_point": KEPT,
                **{name: {who: _coarse(v) for who, v in pair.items()} for name, pair in scores.looks.items()},
                "motion": {who: _coarse(v) for who, v in scores.motion.items()},
            },
            "obeyed": scores.obeyed,
            "memory_bytes": {
                "settled_frame": scores.memory.settled,
                "settled": scores.memory.first,
                "last": scores.memory.last,
            },
            "frame_ms": milliseconds,
        }
    )


def endless_page(report: Mapping[str, Any], scores: EndlessScores, found: Mapping[str, Line]) -> str:
    """The HTML page. report: as in report.json."""
    seconds = report["frames"] / report["fps"]
    lead = (
        f"{report['params'] / 1e6:.2f} M parameters dream {report['rollouts']} rollouts "
        f"of {report['frames']:,} frames ({seconds:.0f} s each) under the keys of held-out games. The world sees "
        f"{report['context']} real frames once, and after that only keys. {report['hardware']}."
    )
    sections = [_lines(found), _looks(scores), _rollouts(scores), _strips(scores)]
    return page(f"World '{report['world']}'", lead, _cards(report, found), sections, kicker="vidar eval, suite endless")


def _cards(report: Mapping[str, Any], found: Mapping[str, Line]) -> list[Card]:
    measured = [line.passed for line in found.values() if line.passed is not None]
    left_out = len(found) - len(measured)
    worst = max(UNITS, key=lambda name: found[name].figure or 0.0)
    survival = report["survival"]
    speed = report["frame_ms"]
    cards = [
        Card(
            f"{sum(measured)} of {len(measured)}",
            "criteria met",
            f"{left_out} not measured" if left_out else "",
            "good" if all(measured) else "bad",
        ),
        Card(
            f"{survival['mean']:,.0f}",
            f"of {report['frames']:,} frames survived, mean",
            f"real play by the same rule: {survival['real_mean']:,.0f}",
        ),
        _card(found[worst], f"of later frames outside the real range of {worst}, the worst of the three", True),
        _card(found["motion_late"], "motion relative to real play, later frames"),
        _card(found["actions"], "action score relative to the real game, last frames"),
    ]
    if speed:
        told = f"{speed['young']:.1f} ms, then {speed['old']:.1f} ms"
        cards.append(_card(found["frame_time"], f"time of a late frame relative to an early one: {told}"))
    return cards


def _card(line: Line, label: str, share: bool = False) -> Card:
    moods: dict[bool | None, Mood] = {True: "good", False: "bad", None: "open"}
    return Card(
        _figure(line.figure, share),
        label,
        line.why if line.passed is None else _limits(line, share),
        moods[line.passed],
    )


def _limits(line: Line, share: bool = False) -> str:
    least = [f"at least {_figure(line.least, share)}"] if line.least > -math.inf else []
    most = [f"at most {_figure(line.most, share)}"] if line.most < math.inf else []
    return ", ".join(least + most)


def _lines(found: Mapping[str, Line]) -> Section:
    rows = []
    for name, line in found.items():
        share = name in UNITS
        result = {True: "passes", False: "fails", None: "not measured"}[line.passed]
        figures = (_figure(value, share) for value in (line.real, line.elsewhere))
        rows.append([line.what, _figure(line.figure, share), _limits(line, share), *figures, result])
    return Section(
        "Acceptance criteria",
        "Later frames are the second half. The real range extends from the 1 % to the 99 % quantile of other held-out "
        "games; real play under the same keys is compared with the same range. Elsewhere is the real game "
        "under the same keys from other places. There the keys do not fit, just as they soon do not fit a dream. "
        "Brightness, contrast, sharpness and survival see none of twelve planted faults at every strength: a dream "
        "that loops or has wrong colours may pass (docs/fault-table.md). The suite ruler sees more.",
        [table(["", "dream", "limit", "real play", "elsewhere", ""], rows)],
    )


def _looks(scores: EndlessScores) -> Section:
    fps, second = scores.play.fps, max(1, round(scores.play.fps))
    pieces = [
        plot(
            curves(_curves(pair, second, scores.play.real_range.looks[name]), UNITS[name], floor=0.0, fps=fps),
            name.capitalize(),
        )
        for name, pair in scores.looks.items()
    ]
    joins = scores.play.joins[:, scores.play.context :]
    motion = {who: np.where(joins, np.nan, values) for who, values in scores.motion.items()}
    drawn = curves(_curves(motion, second), "grey levels", floor=0.0, fps=fps)
    pieces.append(plot(drawn, "Difference from the previous frame"))
    return Section(
        "Frame statistics and motion",
        "Means over one second and over the rollouts. A dream that fades loses contrast and sharpness; a dream that "
        "stands still loses motion. The band contains 98 % of single real frames.",
        pieces,
    )


def _curves(pair: Mapping[str, np.ndarray], second: int, band: tuple[float, float] | None = None) -> list[Curve]:
    """model and real [E, T] as means over a second, and the range of real frames."""
    names = {"model": "dreamed", "real": "the game"}
    lines = [Curve(names[who], _smooth(pair[who], second).mean(0), tone=TONE[who]) for who in names]
    if band is None:
        return lines
    level = np.ones(len(lines[0].values))
    low, high = band
    middle = Curve("1-99 % of real frames and its middle", level * (low + high) / 2, level * (high - low) / 2, True, 4)
    return [middle, *lines]


def _rollouts(scores: EndlessScores) -> Section:
    late = slice(scores.dreamed.shape[1] // 2, None)
    counted = ~scores.play.joins[:, scores.play.context :]
    lasted = {who: ends(causes) for who, causes in scores.survival.items()}
    rows = []
    for e, games in enumerate(scores.play.games):
        shares = [
            outside(v["model"][e : e + 1, late], scores.play.real_range.looks[n]) for n, v in scores.looks.items()
        ]
        moved = {who: v[e, counted[e]].mean() for who, v in scores.motion.items()}
        cause = min(scores.survival["model"], key=lambda name: scores.survival["model"][name][e])
        rows.append(
            [
                f"{e + 1}: {', '.join(name.rsplit('-', 1)[-1].lstrip('0') for name in games)}",
                f"{lasted['model'][e]:,}",
                cause if lasted["model"][e] < scores.dreamed.shape[1] else "lasts",
                f"{lasted['real'][e]:,}",
                *(f"{share.mean():.0%}" for share in shares),
                f"{moved['model'] / moved['real']:.2f}" if moved["real"] > 0 else "-",
            ]
        )
    return Section(
        "Survival",
        "The first frame of the first full second that no longer looks like the game: in all its frames a statistic is "
        "outside the real range (looks), or the picture stands still although keys are down (still). The shares count "
        "later frames outside the range.",
        [table(["rollout: games", "survived", "ended by", "real play", *scores.looks, "motion"], rows)],
    )


def _strips(scores: EndlessScores) -> Section:
    count = scores.dreamed.shape[1]
    numbers = [1, *range(EVERY, count + 1, EVERY)]
    numbers += [count] if numbers[-1] != count else []
    columns = [number - 1 for number in numbers]
    lasted = ends(scores.survival["model"])
    pieces = [
        image(
            strip((scores.real[e], scores.dreamed[e]), columns),
            f"Rollout {e + 1}, survived {lasted[e]:,} frames. Top row: the game; bottom row: the dream",
            [f"frame {number:,}" for number in numbers],
        )
        for e in range(len(scores.dreamed))
    ]
    note = (
        "Both rows have the same keys. Their places soon differ; what counts is whether the lower row is still a game."
    )
    return Section("Real and dreamed", note, pieces)


def _smooth(values: np.ndarray, length: int) -> np.ndarray:
    """Means over `length` neighbours, ignoring nan: [E, T] -> [E, T - length + 1]."""
    return np.nanmean(np.lib.stride_tricks.sliding_window_view(values, min(length, values.shape[1]), axis=1), axis=-1)


def _coarse(values: np.ndarray) -> list[float]:
    """[E, T] -> means over all rollouts and KEPT frames each."""
    return [float(values[:, start : start + KEPT].mean()) for start in range(0, values.shape[1], KEPT)]


def _line(line: Line) -> dict[str, Any]:
    limits = {"least": line.least, "most": line.most}
    told = {"what": line.what, "passed": line.passed, "figure": line.figure, **limits, "real": line.real}
    told["elsewhere"] = line.elsewhere
    return {**told, "why": line.why} if line.passed is None else told


def _figure(value: float | None, share: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.1%}" if share else f"{value:.3g}"


def _plain(value: Any) -> Any:
    """Convert numbers and arrays to JSON values, rounded; values that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 4) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
