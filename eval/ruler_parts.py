"""The parts of a run of the ruler: what is made once, and each player; all is kept, and made again if it is damaged."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vidar.data.atomic import make_folder
from vidar.eval.manifold import Manifold
from vidar.eval.output import write
from vidar.eval.processes import in_processes
from vidar.eval.retrieval import Clips
from vidar.eval.ruler_measure import PlayerScores
from vidar.eval.ruler_play import RulerConfig, manifold_seeds
from vidar.eval.ruler_worker import Pictures, RulerTask, begin, explore, measure_player, part

DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError, zipfile.BadZipFile, zlib.error)


def measured(
    task: RulerTask, key: dict[str, Any], lengths: Mapping[str, int], workers: int, tick: Callable[[int, int], None]
) -> dict[str, PlayerScores]:
    """The scores of all players; what an earlier run of the same model and settings has measured is read."""
    make_folder(task.place)
    found = _finished(task.place, key, list(lengths))
    missing = sorted(((n, f) for n, f in lengths.items() if n not in found), key=lambda job: -job[1])
    games = [] if not missing or _prepared(task.place, key) else _games(task.config)
    total, done = len(games) + len(missing), 0
    played: dict[tuple[int, int], Any] = {}
    for job, episode in in_processes(explore, games, workers, begin, (task,)):
        played[job] = episode
        done += 1
        tick(done, total)
    if games:
        _prepare(task, key, played)
    for (name, _), _none in in_processes(measure_player, missing, workers, begin, (task,)):
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
    except DAMAGED:
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
        except DAMAGED:
            continue  # missing or damaged: measured again
    return found
