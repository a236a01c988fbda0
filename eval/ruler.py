"""The suite `ruler`: what players do with a world, dreamed beside the real game from the same starts.

Each player is measured, written and forgotten before the next: an interrupted run continues where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vidar.config import to_dict
from vidar.data.atomic import make_folder, replacing
from vidar.data.vizdoom import scenario_file
from vidar.eval.output import MARK, bar, begin, folder, write
from vidar.eval.players import Player, players
from vidar.eval.plots import strip
from vidar.eval.provenance import hardware, shown, versions
from vidar.eval.ruler_measure import MARKS, measure, summary
from vidar.eval.ruler_play import RealGame, RulerConfig, Start
from vidar.eval.ruler_report import ruler_page
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load_world
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError

USUAL = RulerConfig()
PARTS = "players"  # folder of what is finished


def run(
    model: str,
    out: str | os.PathLike[str],
    *,
    starts: int = 16,
    frames: int = 175,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    config: RulerConfig = USUAL,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Play and dream all players; write report.html and report.json into `out`. Returns the content of the latter.

    starts: games from which each player begins. frames: of each play. progress(done, all) counts frames. Raises
    UsageError or VidarError in one line, before anything is dreamed.
    """
    place, began = folder(out), time.perf_counter()
    scenario_file(config.scenario)
    if starts < 2 or frames < 16:
        raise UsageError(f"the ruler needs 2 starts and 16 frames or more, not {starts} and {frames}")
    world = load_world(model, device)
    if world.config.order.chain is not None:
        raise UsageError(f"world {world.config.name!r} plans segments; the ruler plays frame after frame")
    game = RealGame(world.config, config, frames)
    try:
        everyone = players(world.config.spec, world.config.fps, _turn(game))
        key = {"model": fingerprint(world), "starts": starts, "frames": frames, "seed": seed, "steps": steps}
        key |= {"config": to_dict(config), "versions": versions()}
        finished = _finished(place, key, everyone)
        total = (len(everyone) - len(finished)) * starts * frames
        with bar(Console(stderr=True), "dreaming as players do") as tick:
            _missing(
                world, game, place, key, everyone, finished, (starts, frames, seed, steps), progress or tick, total
            )
    finally:
        game.close()
    report = {
        "world": world.config.name,
        "params": world.num_parameters,
        "fps": world.config.fps,
        "hardware": hardware(device),
        "starts": starts,
        "frames": frames,
        "seed": seed,
        "steps": steps or world.config.steps,
        **_headline(finished),
        "players": finished,
        "config": to_dict(config),
        "command": f"vidar eval {shown(model)} --suite ruler --episodes {starts} --frames {frames} --out {shown(out)}",
        "versions": versions(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    pictures = {name: (place / PARTS / f"{_file(name)}.png").read_bytes() for name in everyone}
    begin(place)
    write(place / "report.html", ruler_page(report, pictures, marks(frames, world.config.fps)))
    write(place / MARK, report)
    return report


def marks(frames: int, fps: float) -> list[float]:
    """The seconds that a strip shows: 0, then those of MARKS that were played, and the end."""
    last = round(frames / fps, 1)
    return [0.0, *(float(mark) for mark in MARKS if mark < last), last]


def _missing(
    world: VideoModel,
    game: RealGame,
    place: Path,
    key: dict[str, Any],
    everyone: dict[str, Player] | Any,
    finished: dict[str, Any],
    given: tuple[int, int, int, int | None],
    tick: Callable[[int, int], None],
    total: int,
) -> None:
    """Measure the players that are not finished, and write each."""
    starts, frames, seed, steps = given
    if len(finished) == len(everyone):
        return
    from_here, manifold, done = game.starts(starts), game.manifold(), 0
    make_folder(place / PARTS)
    for name, player in everyone.items():
        if name in finished:
            continue
        played = game.play(from_here, player, frames)
        dreamed = dream(world, from_here, played.table, seed, steps)
        first = np.stack([start.frames[-1] for start in from_here])
        scores = measure(dreamed, played, first, world.config.fps, manifold)
        found = summary(scores, world.config.fps)
        _write_strip(place / PARTS / f"{_file(name)}.png", first, dreamed, played.frames, scores.off["model"], world)
        write(place / PARTS / f"{_file(name)}.json", {"key": key, "name": name, "found": found})
        finished[name] = found
        done += starts * frames
        tick(done, total)


def dream(world: VideoModel, starts: list[Start], table: np.ndarray, seed: int, steps: int | None = None) -> np.ndarray:
    """The dreams of a player: uint8 [E, T, H, W, 3]. Start e has the noise of Rng(seed, e)."""
    c = world.config.context
    context = torch.from_numpy(np.stack([start.frames[-c:] for start in starts]))
    before = torch.from_numpy(np.stack([start.actions[-c:] for start in starts]))
    rows = (torch.from_numpy(np.ascontiguousarray(table[:, n])) for n in range(table.shape[1]))
    rngs = [Rng(seed, e) for e in range(len(starts))]
    return np.stack([frame.cpu().numpy() for frame in world.frames(context, rows, before, rngs, steps)], 1)


def _turn(game: RealGame) -> int | None:
    """Frames of a full turn with a turning key held, from the pose of the real game."""
    keys = [name for name in game.world.spec.names if "TURN" in name.upper()]
    if not keys:
        return None
    rows = np.repeat(game.world.spec.noop()[None], 20, axis=0)
    rows[:, game.world.spec.names.index(keys[0])] = 1
    angles = game.play(game.starts(1), lambda frames, start: rows[:frames], 16).poses[0, :, 3]
    step = abs((angles[-1] - angles[-2] + 180.0) % 360.0 - 180.0)
    return max(1, round(360.0 / step)) if step else None


def _finished(place: Path, key: dict[str, Any], everyone: Any) -> dict[str, Any]:
    """Players that an earlier run of the same model and settings has measured."""
    found = {}
    for name in everyone:
        file = place / PARTS / f"{_file(name)}.json"
        try:
            told = json.loads(file.read_text())
            if told["key"] == key and told["name"] == name and file.with_suffix(".png").is_file():
                found[name] = told["found"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # missing or damaged: measured again
    return found


def _headline(found: dict[str, Any]) -> dict[str, Any]:
    """The share of frames that are pictures of the game, over all players and for the worst one."""
    off = {who: [one["off_manifold"][who] for one in found.values()] for who in ("model", "real")}
    worst = max(found, key=lambda name: found[name]["off_manifold"]["model"])
    return {
        "on_manifold": {who: round(1 - float(np.mean(values)), 4) for who, values in off.items()},
        "worst_player": {"name": worst, "on_manifold": round(1 - found[worst]["off_manifold"]["model"], 4)},
        "idle_held_db": {s: found["idle"][f"held_db{s}"]["model"] for s in ("", "_worst")},
    }


def _write_strip(
    file: Path, first: np.ndarray, dreamed: np.ndarray, real: np.ndarray, off: np.ndarray, world: VideoModel
) -> None:
    """Game and dream of the first start, and of the one with the most frames off the manifold, if it is another."""
    worst = int(np.argmax(off.mean(1)))
    columns = [round(mark * world.config.fps) for mark in marks(dreamed.shape[1], world.config.fps)]
    rows = [
        np.concatenate([first[e : e + 1], shown[e]]) for e in dict.fromkeys((0, worst)) for shown in (real, dreamed)
    ]
    with replacing(file) as temporary:
        temporary.write_bytes(strip(rows, columns, scale=1))


def _file(name: str) -> str:
    return name.replace(" ", "_")
