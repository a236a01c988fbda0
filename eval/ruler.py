"""The suite `ruler`: what players do with a world, dreamed beside the real game from the same starts.

Players are measured in processes, and each is written when it is finished: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vidar.config import to_dict
from vidar.data.atomic import make_folder
from vidar.eval.manifold import Manifold
from vidar.eval.output import MARK, bar, begin, folder, write
from vidar.eval.paired import Figures, fingerprint_of, write_strips
from vidar.eval.paired import figures as paired_figures
from vidar.eval.players import forward, keys_of
from vidar.eval.processes import in_processes, usable_cores
from vidar.eval.provenance import hardware, shown, versions
from vidar.eval.report import Section
from vidar.eval.retrieval import Clips
from vidar.eval.ruler_measure import PlayerScores
from vidar.eval.ruler_play import RealGame, RulerConfig, manifold_seeds
from vidar.eval.ruler_report import marks, player_strip, ruler_page, strips_section
from vidar.eval.ruler_summary import likeness, likeness_parts, on_manifold_by_second, player_figures, row_figures
from vidar.eval.ruler_worker import (
    MODEL,
    RECORDED,
    Pictures,
    RulerTask,
    end,
    everyone,
    explore,
    measure_player,
    part,
)
from vidar.eval.ruler_worker import begin as begin_process
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load_world
from vidar.model.model import VideoModel
from vidar.types import UsageError

USUAL = RulerConfig()
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
    config: RulerConfig = USUAL,
    suite: str = "ruler",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Play and dream all players; write report.html and report.json into `out`. Returns the content of the latter.

    game: a ViZDoom scenario, "shapes" or the id of an environment (default: by the actions). starts: games from which
    each player begins. frames: of every play (default: the seconds of `config`). against: another model, as a further
    row. workers: processes (default: one for each core; on a GPU one).
    progress(done, all) counts games and players. Raises UsageError or VidarError in one line, before anything is
    dreamed.
    """
    place, began = folder(out), time.perf_counter()
    config = config if starts is None else config.replace(starts=starts)
    config = config if game is None else config.replace(game=game)
    world, models = load_world(model, device), {MODEL: model}
    fps = world.config.fps
    least = 16
    if frames is not None and frames < least:
        raise UsageError(f"the ruler needs {least} frames or more, not {frames}")
    check_world(world)
    key: dict[str, Any] = {"model": fingerprint(world), "seed": seed, "steps": steps, "frames": frames}
    if against is not None:
        models[against], other = against, load_world(against, device)
        check_pair(world, other, against)
        key["against"] = fingerprint(other)
    key |= {"config": to_dict(config), "versions": versions()}
    lengths, longest = _lengths(world, config, frames)
    task = RulerTask(models, config, place / PARTS, seed, steps, device, longest)
    count = workers or (usable_cores() if device == "cpu" else 1)
    try:
        with bar(Console(stderr=True), "playing and dreaming") as tick:
            players = _measured(task, key, lengths, count, progress or tick)
    finally:
        end()
    threshold = Manifold.load(task.place / "manifold.npz").threshold
    report: dict[str, Any] = {
        "suite": suite,
        "world": world.config.name,
        "params": world.num_parameters,
        "fps": fps,
        "hardware": hardware(device),
        "starts": config.starts,
        "frames": {name: len(scores.judged[0]) for name, scores in players.items()},
        "seed": seed,
        "steps": steps or world.config.steps,
        **figures(players, threshold, fps),
        **_paired(players, threshold, fps, suite, config).entries(),
        "config": to_dict(config),
        "command": _command(
            model, suite, {"game": game, "episodes": starts, "frames": frames, "against": against, "out": out}
        ),
        "versions": versions(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    pictures = {name: Pictures.load(part(task.place, name, ".pictures.npz")) for name in players}
    begin(place)
    seconds = marks(min(len(scores.judged[0]) for scores in players.values()), fps)
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


def check_pair(world: VideoModel, other: VideoModel, name: str) -> None:
    """Raises UsageError if another model is not of the same game."""
    mine, theirs = ((w.config.height, w.config.width, w.config.fps, w.config.spec.names) for w in (world, other))
    if mine != theirs:
        raise UsageError(f"--against {name}: size, frame rate or actions differ from those of {world.config.name!r}")
    check_world(other)


def _lengths(world: VideoModel, config: RulerConfig, frames: int | None) -> tuple[dict[str, int], int]:
    """Frames of every player, and the most of them."""
    fps = world.config.fps
    long = {"idle", f"hold {forward(world.config.spec)}", "mash", RECORDED}
    usual, longest = round(config.seconds * fps), round(max(config.seconds, config.long_seconds) * fps)
    game = RealGame(world.config, config, frames or longest)
    try:
        names = list(everyone(game, game.starts(1)))
    finally:
        game.close()
    for name in config.only:
        if name not in names:
            raise UsageError(f"no player {name!r}; valid: {', '.join(names)}")
    wanted = [name for name in names if not config.only or name in config.only]
    lengths = {name: frames or (longest if name in long else usual) for name in wanted}
    return lengths, max(lengths.values())


def _measured(
    task: RulerTask, key: dict[str, Any], lengths: Mapping[str, int], workers: int, tick: Callable[[int, int], None]
) -> dict[str, PlayerScores]:
    """The scores of all players; what an earlier run of the same model and settings has measured is read."""
    make_folder(task.place)
    found = _finished(task.place, key, list(lengths))
    missing = sorted(((n, f) for n, f in lengths.items() if n not in found), key=lambda job: -job[1])
    games = [] if not missing or _prepared(task.place, key) else _games(task.config)
    total, done = len(games) + len(missing), 0
    played: dict[tuple[int, int], Any] = {}
    for job, episode in in_processes(explore, games, workers, begin_process, (task,)):
        played[job] = episode
        done += 1
        tick(done, total)
    if games:
        _prepare(task, key, played)
    for (name, _), _none in in_processes(measure_player, missing, workers, begin_process, (task,)):
        write(part(task.place, name, ".json"), {"key": key, "name": name})
        found[name] = PlayerScores.load(part(task.place, name, ".npz"))
        done += 1
        tick(done, total)
    return {name: found[name] for name in lengths}


def _games(config: RulerConfig) -> list[tuple[int, int]]:
    reference, others = manifold_seeds(config)
    return [(seed, config.clip_frames) for seed in (*range(config.clips), *reference, *others)]


def _prepare(task: RulerTask, key: dict[str, Any], played: Mapping[tuple[int, int], Any]) -> None:
    """Write the manifold and the games for retrieval."""
    config = task.config
    by_seed = {seed: episode for (seed, _), episode in played.items()}
    reference, others = ([by_seed[seed].frames[::2] for seed in seeds] for seeds in manifold_seeds(config))
    clips = [by_seed[seed] for seed in range(config.clips)]
    Clips.of([one.frames for one in clips], [one.actions for one in clips]).save(task.place / "clips.npz")
    Manifold.of(reference, others).save(task.place / "manifold.npz")
    write(task.place / "game.json", {"key": _game_key(key)})


def _prepared(place: Path, key: dict[str, Any]) -> bool:
    try:
        if json.loads((place / "game.json").read_text())["key"] != _game_key(key):
            return False
        Manifold.load(place / "manifold.npz")
        Clips.load(place / "clips.npz")
    except (OSError, ValueError, KeyError, TypeError):
        return False  # missing or damaged: made again
    return True


def _game_key(key: dict[str, Any]) -> dict[str, Any]:
    return {name: key[name] for name in ("config", "versions")}


def _finished(place: Path, key: dict[str, Any], names: list[str]) -> dict[str, PlayerScores]:
    """Players that an earlier run of the same model and settings has measured."""
    found = {}
    for name in names:
        file = partial(part, place, name)
        try:
            told = json.loads(file(".json").read_text())
            if told == {"key": key, "name": name}:
                Pictures.load(file(".pictures.npz"))
                found[name] = PlayerScores.load(file(".npz"))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # missing or damaged: measured again
    return found


def _command(model: str, suite: str, options: Mapping[str, Any]) -> str:
    words = [f"--{name} {shown(value)}" for name, value in options.items() if value is not None]
    return " ".join(["vidar", "eval", shown(model), "--suite", suite, *words])
