"""The fault table: which of twelve faults, planted in real play at eight strengths, does a metric see?

Faults are measured in processes, and each is written when it is finished: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from vidar.config import to_dict, unknown_key
from vidar.data.atomic import make_folder, writing
from vidar.data.outputs import check_outputs
from vidar.data.players import keys_of
from vidar.eval.fault_metrics import HEADLINE, Cell, broken_claims, cell, metric
from vidar.eval.fault_report import fault_page, fault_text
from vidar.eval.fault_worker import (
    FaultTask,
    begin,
    end,
    explore,
    fault_part,
    measure_fault,
    prepare,
    prepared,
)
from vidar.eval.faults import FAULTS, STRENGTHS
from vidar.eval.output import bar, folder, write
from vidar.eval.processes import in_processes, usable_cores
from vidar.eval.provenance import hardware, shown, versions
from vidar.eval.ruler_play import RulerConfig, manifold_seeds
from vidar.eval.ruler_worker import RECORDED, player_names
from vidar.model.load import load_world_config, locate
from vidar.types import UsageError

VERSION = 1  # of faults.json
MARK = "faults.json"  # written last
PARTS = "faults"  # folder of what is finished
PLAYERS = ("TURN_LEFT and back", "idle", "hold MOVE_FORWARD", "walk and return", "mash", RECORDED)
USUAL = RulerConfig(starts=5, seconds=8.0, only=PLAYERS)  # Choice: fewer starts have too few other places for faults
LEAST = 17  # frames of a play: one more than a window of the extractors


def run(
    out: str | os.PathLike[str],
    *,
    model: str = "doom",
    starts: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    docs: str | os.PathLike[str] | None = None,
    config: RulerConfig = USUAL,
    faults: Sequence[str] = tuple(FAULTS),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Plant the faults, measure, and write faults.html and faults.json into `out`. Returns the content of the latter.

    model: the world whose game is played and whose encoder gives features; it does not dream. starts, seconds: of every
    player. docs: a Markdown file for the table. workers: processes (default: one for each core). progress(done, all)
    counts games and faults. Raises UsageError or VidarError in one line, before anything is measured.
    """
    place, began = folder(out), time.perf_counter()
    check_outputs(file for name in (MARK, "faults.html") if (file := place / name).exists())
    if docs is not None:
        check_outputs([docs])
    for fault in faults:
        if fault not in FAULTS:
            raise UsageError(unknown_key(fault, FAULTS, "the table of faults"))
    config = config.replace(starts=starts or config.starts, seconds=seconds or config.seconds)
    world = load_world_config(locate(model))
    _check(config, world)
    task = FaultTask(model, config, config.only, place / PARTS, seed)
    key = {"world": world.name, "config": to_dict(config), "seed": seed, "versions": versions()}
    try:
        with bar(Console(stderr=True), "planting faults") as tick:
            found = _measured(task, key, faults, workers or usable_cores(), progress or tick)
    finally:
        end()
    table = {name: {fault: cell(name, found[fault][name]) for fault in faults} for name in found[faults[0]]}
    report = {
        "version": VERSION,
        "world": world.name,
        "fps": world.fps,
        "hardware": hardware(),
        "starts": config.starts,
        "frames": round(config.seconds * world.fps),
        "players": list(config.only),
        "seed": seed,
        "strengths": STRENGTHS,
        **judged(table),
        "config": to_dict(config),
        "command": f"vidar eval faults{(options := _options(model, starts, seconds, seed))} --out {shown(out)}",
        "options": options,
        "versions": versions(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    strips = {fault: fault_part(task.place, fault, ".png").read_bytes() for fault in faults}
    _write(place, docs, report, strips)
    return report


def _write(
    place: Path, docs: str | os.PathLike[str] | None, report: dict[str, Any], strips: Mapping[str, bytes]
) -> None:
    with writing(place / MARK):
        (place / MARK).unlink(missing_ok=True)
    write(place / "faults.html", fault_page(report, strips))
    if docs is not None:
        write(Path(docs), fault_text(report))
    write(place / MARK, report)


def judged(table: Mapping[str, Mapping[str, Cell]]) -> dict[str, Any]:
    """The entries of faults.json that follow from a table [metric][fault]."""
    faults = list(next(iter(table.values())))
    headline = table[HEADLINE]
    return {
        "faults": {fault: FAULTS[fault].what for fault in faults},
        "metrics": {
            name: {"what": (kind := metric(name)).what, "more": kind.more, "digits": kind.digits,
                   "claims": sorted(kind.claims), "seen": sum(one.sees for one in row.values())}
            for name, row in table.items()
        },
        "headline": {
            "metric": HEADLINE,
            "seen": sum(one.sees for one in headline.values()),
            "of": len(faults),
            "blind": [fault for fault, one in headline.items() if not one.sees],
            "not_below_real": [
                [fault, strength]
                for fault, one in headline.items()
                for strength, value in enumerate(one.values)
                if strength and not value < one.values[0]
            ],
        },
        "broken_claims": [list(pair) for pair in broken_claims(table)],
        "table": {
            name: {
                fault: {"values": [round(value, 6) for value in one.values], "falls": one.falls, "steps": one.steps,
                        "sees": one.sees, "prefers": one.prefers}
                for fault, one in row.items()
            }
            for name, row in table.items()
        },
    }  # fmt: skip


def _check(config: RulerConfig, world: Any) -> None:
    """Raises UsageError for too short a play, or for players that this game does not have."""
    keys_of(world.spec)
    frames = round(config.seconds * world.fps)
    if frames < LEAST:
        raise UsageError(f"a play of {frames} frames is too short for the fault table, which needs {LEAST} or more")
    player_names(world, config, frames)


def _measured(
    task: FaultTask, key: dict[str, Any], faults: Sequence[str], workers: int, tick: Callable[[int, int], None]
) -> dict[str, dict[str, list[float]]]:
    """fault -> metric -> figures; what an earlier run of the same settings has measured is read."""
    make_folder(task.place)
    found = _finished(task.place, key, faults)
    missing = [fault for fault in faults if fault not in found]
    config = task.config
    reference, others = manifold_seeds(config)
    ready = not missing or (_read(task.place / "game.json") == {"key": key} and prepared(task.place))
    games = [] if ready else [(seed, config.clip_frames) for seed in (*reference, *others)]
    total, done, played = len(games) + len(missing), 0, {}
    for (number, _), episode in in_processes(explore, games, workers, begin, (task,)):
        played[number] = episode
        done += 1
        tick(done, total)
    if games:
        prepare(task.place, [played[n] for n in reference], [played[n] for n in others])
        write(task.place / "game.json", {"key": key})
    for fault, figures in in_processes(measure_fault, missing, workers, begin, (task,)):
        write(fault_part(task.place, fault, ".json"), {"key": {**key, "fault": FAULTS[fault].what}, "figures": figures})
        found[fault] = figures
        done += 1
        tick(done, total)
    return {fault: found[fault] for fault in faults}


def _finished(place: Path, key: dict[str, Any], faults: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    found = {}
    for fault in faults:
        told = _read(fault_part(place, fault, ".json"))
        if told.get("key") == {**key, "fault": FAULTS[fault].what} and fault_part(place, fault, ".png").is_file():
            found[fault] = told["figures"]
    return found


def _read(file: Path) -> dict[str, Any]:
    """The record in a file; empty if it is missing or damaged, so that it is made again."""
    try:
        told = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _options(model: str, starts: int | None, seconds: float | None, seed: int) -> str:
    """The options of the command that the figures depend on, each with a space before it."""
    given = {"--model": None if model == "doom" else model, "--starts": starts, "--seconds": seconds}
    given |= {"--seed": seed or None}
    return "".join(f" {name} {shown(value)}" for name, value in given.items() if value is not None)
