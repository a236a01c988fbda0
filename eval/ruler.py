"""The suite `ruler`: what players do with a world, dreamed beside the real game from the same starts.

Players are measured in processes, and each is written when it is finished: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vidar.config import to_dict
from vidar.data.players import forward, keys_of
from vidar.eval.manifold import Manifold
from vidar.eval.output import MARK, bar, begin, folder, write
from vidar.eval.paired import Figures, fingerprint_of, write_strips
from vidar.eval.paired import figures as paired_figures
from vidar.eval.processes import usable_cores
from vidar.eval.provenance import hardware, option_words, shown, versions, without
from vidar.eval.report import Section
from vidar.eval.ruler_measure import PlayerScores
from vidar.eval.ruler_motion import readable, shuffled_keys
from vidar.eval.ruler_parts import measured
from vidar.eval.ruler_play import USUAL, RulerConfig
from vidar.eval.ruler_report import marks, player_strip, ruler_page, strips_section
from vidar.eval.ruler_summary import likeness, likeness_parts, on_manifold_by_second, player_figures, row_figures
from vidar.eval.ruler_worker import (
    MODEL,
    RECORDED,
    Pictures,
    RulerTask,
    end,
    part,
    player_names,
)
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load_world
from vidar.model.model import VideoModel
from vidar.types import UsageError

LEAST_FRAMES = 16
PARTS = "players"  # folder of what is finished


def run(
    model: str,
    out: str | os.PathLike[str],
    *,
    starts: int | None = None,
    frames: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    game: str | None = None,
    against: str | None = None,
    workers: int | None = None,
    no_memory: bool = False,
    config: RulerConfig = USUAL,
    suite: str = "ruler",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Play and dream all players; write report.html and report.json into `out`. Returns the content of the latter.

    game: a ViZDoom scenario, "shapes" or the id of an environment (default: by the actions). starts: games from which
    each player begins. frames: of every play (default: the seconds of `config`). against: another model, as a further
    row. workers: processes (default: one for each core; on a GPU one). no_memory: run the model, but not the other one,
    without its memory. progress(done, all) counts games and players.
    Raises UsageError or VidarError in one line, before anything is dreamed.
    """
    place, began = folder(out), time.perf_counter()
    changed = {name: value for name, value in {"starts": starts, "game": game}.items() if value is not None}
    config = config.replace(**changed)
    if frames is not None and frames < LEAST_FRAMES:
        raise UsageError(f"the ruler needs {LEAST_FRAMES} frames or more, not {frames}")
    world = load_world(model, device, memory=not no_memory)
    check_world(world)
    models = {MODEL: model} | ({} if against is None else {against: against})
    key: dict[str, Any] = {"models": [fingerprint(world)], "seed": seed, "steps": steps, "frames": frames}
    if against is not None:
        key["models"].append(fingerprint(_other(world, against, device)))
    key |= {"config": to_dict(config), "versions": versions()}
    lengths, longest = _lengths(world, config, frames)
    task = RulerTask(models, config, place / PARTS, seed, steps, device, longest, no_memory)
    count = workers or (usable_cores() if device == "cpu" else 1)
    try:
        with bar(Console(stderr=True), "playing and dreaming") as tick:
            players = measured(task, key, lengths, count, progress or tick)
    finally:
        end()
    options = {"game": game, "episodes": starts, "frames": frames, "against": against, "out": out}
    options |= {"no-memory": True} if no_memory else {}
    facts = {
        "suite": suite,
        "world": world.config.name,
        "params": world.num_parameters,
        "fps": world.config.fps,
        "hardware": hardware(device),
        "seed": seed,
        "steps": steps or world.config.steps,
        **without(no_memory),
        "command": _command(model, suite, options),
        "seconds": round(time.perf_counter() - began, 1),
    }
    return _written(place, facts, config, players)


def _written(
    place: Path, facts: Mapping[str, Any], config: RulerConfig, players: Mapping[str, PlayerScores]
) -> dict[str, Any]:
    """Write the report of measured players; returns the content of report.json."""
    fps = facts["fps"]
    threshold = Manifold.load(place / PARTS / "manifold.npz").threshold
    report: dict[str, Any] = {
        **facts,
        "starts": config.starts,
        "frames": {name: len(scores.judged[0]) for name, scores in players.items()},
        **figures(players, threshold, fps),
        **_paired(players, threshold, fps, facts["suite"], config).entries(),
        "config": to_dict(config),
        "versions": versions(),
    }
    pictures = {name: Pictures.load(part(place / PARTS, name, ".pictures.npz")) for name in players}
    begin(place)
    seconds = marks(min(report["frames"].values()), fps)
    strips = {name: player_strip(one, fps, seconds) for name, one in pictures.items()}
    report |= write_strips(place, strips, [f"{second:g} s" for second in seconds])
    write(place / "report.html", ruler_page(report, pictures, players, threshold))
    write(place / MARK, report)
    return report


def strips_of(place: Path, players: Sequence[str], fps: float) -> Section:
    """The strips of a report in the folder `place`, for another page."""
    pictures = {name: Pictures.load(part(place / PARTS, name, ".pictures.npz")) for name in players}
    return strips_section(pictures, fps)


def figures(players: Mapping[str, PlayerScores], threshold: float, fps: float) -> dict[str, Any]:
    """The figures of report.json: rows -> likeness and its parts, players -> rows -> figures, curves."""
    rows = list(next(iter(players.values())).rows)
    curves = {row: on_manifold_by_second(players, row, threshold, fps) for row in rows}
    return {
        "rows": {row: row_figures(players, row, threshold, fps) for row in rows},
        "players": {
            name: {row: player_figures(scores, row, threshold, fps) for row in rows} for name, scores in players.items()
        },
        **({"shuffled_keys": shuffled_keys(players, MODEL, fps)} if readable(players) else {}),
        "on_manifold_by_second": {row: [round(float(v), 4) for v in found.mean(0)] for row, found in curves.items()},
    }


def _paired(
    players: Mapping[str, PlayerScores], threshold: float, fps: float, suite: str, config: RulerConfig
) -> Figures:
    """The likeness and its parts for each start."""
    parts = likeness_parts(players, MODEL, threshold, fps)
    whole = [likeness(parts, [start]) for start in range(config.starts)]
    values = {"likeness": np.array(whole), **parts}
    poses = np.concatenate([scores.poses.ravel() for scores in players.values()])
    pairing = {
        "suite": suite,
        "config": to_dict(config),
        "fps": fps,
        "frames": {name: len(scores.judged[0]) for name, scores in players.items()},
        "poses": fingerprint_of(poses),
    }
    return paired_figures(pairing, values, dict.fromkeys(values, "higher"))


def check_world(world: VideoModel) -> None:
    """Raises UsageError for a world that the ruler cannot play."""
    if world.config.order.chain is not None:
        raise UsageError(f"world {world.config.name!r} plans segments; the ruler plays frame after frame")
    keys_of(world.config.spec)


def _other(world: VideoModel, name: str, device: str) -> VideoModel:
    """The other model. Raises UsageError if it is not of the same game."""
    other = load_world(name, device)
    mine, theirs = ((w.config.height, w.config.width, w.config.fps, w.config.spec.names) for w in (world, other))
    if mine != theirs:
        raise UsageError(f"--against {name}: size, frame rate or actions differ from those of {world.config.name!r}")
    check_world(other)
    return other


def _lengths(world: VideoModel, config: RulerConfig, frames: int | None) -> tuple[dict[str, int], int]:
    """Frames of every player, and the most of them."""
    fps = world.config.fps
    long = {"idle", f"hold {forward(world.config.spec)}", "mash", RECORDED}
    usual, longest = round(config.seconds * fps), round(max(config.seconds, config.long_seconds) * fps)
    wanted = player_names(world.config, config, frames or longest)
    lengths = {name: frames or (longest if name in long else usual) for name in wanted}
    return lengths, max(lengths.values())


def _command(model: str, suite: str, options: Mapping[str, Any]) -> str:
    words = [word for name, value in options.items() if value is not None for word in option_words(name, value)]
    return " ".join(["vidar", "eval", shown(model), "--suite", suite, *words])
