"""Storage of figures beside their recipe: implements `--record RECIPE` for every measuring command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from vidar.configs import figures
from vidar.configs.catalog import find
from vidar.configs.figures import Figure, Measurement, Results, Role, Training
from vidar.data.atomic import check_output

Found = tuple[str, Sequence[Figure]]  # a description of the data; the figures, the main ones first
OPTION = "--record"


def check_record(*recipes: str | None) -> None:
    """Check before measuring that the figures could be stored. Raises UsageError or VidarError."""
    for recipe in recipes:
        if recipe is not None:
            find(recipe)
            check_output(figures.FOLDER / f"{recipe}.json")


def record(recipe: str, command: str, found: Found, model: str | Path | None = None, note: str = "") -> Path:
    """Store what a command measured on a recipe's weights, replacing its earlier result; returns the file.

    model: the model folder; the log of its training run supplies minutes and steps.
    """
    check_record(recipe)
    data, numbers = found
    made = Measurement(command=command, data=data, date=date.today().isoformat(), figures=tuple(numbers), note=note)
    known = (figures.read(recipe) or Results(recipe=recipe)).beside(made)
    training = None if model is None else trained(model)
    return figures.write(known if training is None else known.replace(training=training))


def command_line(script: str, arguments: Sequence[str]) -> str:
    """A script of this repository with its arguments as one line, without `--record` and its value."""
    kept, rest = list[str](), iter(arguments)
    for word in rest:
        if word == OPTION:
            next(rest, None)
        elif not word.startswith(f"{OPTION}="):
            kept.append(word)
    return shlex.join(["python", f"scripts/{Path(script).name}", *kept])


def trained(model: str | Path) -> Training | None:
    """Minutes and steps of the run that produced a model, from its log; None without a log."""
    log = Path(model).parent / "log.jsonl"
    if not log.is_file():
        return None
    steps = [entry for line in log.read_text().splitlines() if "elapsed" in (entry := json.loads(line))]
    return Training(minutes=round(steps[-1]["elapsed"] / 60, 1), steps=steps[-1]["step"]) if steps else None


def percent(name: str, share: float, digits: int = 0, **more: Any) -> Figure:
    """A share in [0, 1], shown in percent."""
    return Figure(name=name, value=round(100 * share, 2), unit="%", digits=digits, **more)


def interval(values: Sequence[float], **more: Any) -> Figure:
    """Mean, low and high of a figure with an interval."""
    mean, low, high = (round(float(value), 4) for value in values)
    return Figure(value=mean, low=low, high=high, **more)


def of_world(report: Mapping[str, Any]) -> Found:
    """The figures of a report of the suite `world` or of the demo: gains first, then the comparisons with the game."""
    found = list[Figure]()
    for baseline, role in (("copy_last", "main"), ("shuffled_actions", "baseline")):
        gain = report["gains"][baseline]
        name = f"over {baseline.replace('copy_last', 'copy-last').replace('_', ' ')}, frames {span(gain['frames'])}"
        values = [gain[end] for end in ("mean", "low", "high")]
        found.append(interval(values, name=name, unit="dB", signed=True, role=role))
    early = [float(np.mean(report["psnr"][who][:8])) for who in ("model", "copy_last")]
    found.append(Figure(name="over copy-last, frames 1-8", value=round(early[0] - early[1], 4), unit="dB", signed=True))
    found.append(percent(f"of real sharpness, frames {span(report['means']['frames'])}", report["sharpness_ratio"]))
    scores = report["action_score"]
    if scores is not None and scores["model"]["mean"] is not None and scores["real"]["mean"]:
        share = scores["model"]["mean"] / scores["real"]["mean"]
        found.append(Figure(name="of the game's keys read back", value=round(share, 4), digits=3))
    return f"{report['episodes']} held-out {'episodes' if 'data' in report else 'games'}", found


def of_endless(report: Mapping[str, Any]) -> Found:
    """The figures of a report of the suite `endless`: share outside the real range, survival, criteria met."""
    looks = [name for name in ("brightness", "contrast", "sharpness") if report["lines"][name]["figure"] is not None]
    found = [
        percent(f"of late frames outside the real range of {name}", report["lines"][name]["figure"], 1)
        for name in looks
    ]
    lasted = report["survival"]
    found.append(Figure(name="frames survived", value=lasted["mean"], digits=0))
    found.append(Figure(name="frames survived by real play", value=lasted["real_mean"], digits=0))
    held = [passed for passed in report["passed"].values() if passed is not None]
    found.append(Figure(name=f"of {len(held)} criteria are met", value=sum(held), digits=0))
    return f"{report['rollouts']} rollouts of {report['frames']:,} frames", found


def of_ruler(report: Mapping[str, Any]) -> Found:
    """The figures of a report of the suite `ruler`: share of frames on the manifold, and idle held to its start."""
    model, real = (report["rows"][row] for row in ("model", "real"))
    idle = report["players"]["idle"]["model"]["held_db"]
    found = [
        Figure(name="likeness to the game, which has 1", value=model["likeness"], digits=2),
        percent("of frames look like the game, all players", model["on_manifold"]),
        percent("of real frames by the same rule", real["on_manifold"], 1),
        percent("of frames look like the game, worst player", model["worst_player"]["on_manifold"]),
    ]
    found += [Figure(name=f"to the start, idle for {s} s", value=db, unit="dB") for s, db in idle.items()]
    return f"{len(report['players'])} players, {report['starts']} starts", found


def of_outcome(report: Mapping[str, Any]) -> Found:
    """The figures of a report of the suite `outcome`: those of recorded frames first."""
    found = list[Figure]()
    roles: dict[str, tuple[Role, Role]] = {"recorded": ("main", "baseline"), "dreamed": ("detail", "detail")}
    for kind, (main, baseline) in roles.items():
        reward, end = report[kind]["reward"], report[kind]["end"]
        values: list[tuple[str, float | None, Role]] = [
            ("R2 of the reward", reward["r2"], main),
            ("R2 of the last reward", reward["r2_of_last_reward"], baseline),
            ("balanced accuracy of the end", end["balanced_accuracy"], "detail"),
        ]
        for name, value, role in values:
            if value is not None:
                found.append(Figure(name=f"{name}, {kind} frames", value=value, digits=3, role=role))
    return f"{report['episodes']} held-out episodes", found


def span(frames: Sequence[int]) -> str:
    """Format a range as `1-16`."""
    return f"{frames[0]}-{frames[1]}"
