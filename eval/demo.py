"""The demo: a shipped world dreams beside the real game, on episodes it has never seen."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidar.config import to_dict
from vidar.data.atomic import replacing
from vidar.data.episode import Episode
from vidar.data.video import write_video
from vidar.data.vizdoom import TICS_PER_SECOND, VizdoomConfig, scenario_file
from vidar.eval.provenance import hardware, versions
from vidar.eval.side_by_side import film
from vidar.eval.world_eval import LEAST_FRAMES, evaluate, latency, summary
from vidar.eval.world_report import world_page
from vidar.types import UsageError, VidarError
from vidar.world.load import load
from vidar.world.world import WorldConfig

SCENARIO = "my_way_home"
FIRST_GAME = 2_000_000  # training plays the games from 0, the held-out shards those from 1_000_000
GAMES_PER_SEED = 10_000
LAST_SEED = (2**32 - FIRST_GAME) // GAMES_PER_SEED - 1  # the engine's seeds have 32 bits
MARK = "report.json"  # written last: where it is, the other files are whole


def demo(
    out: str | os.PathLike[str] = "runs/demo",
    model: str | os.PathLike[str] = "doom",
    episodes: int = 16,
    frames: int = 48,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Play held-out games, dream them, and write dream.mp4, dream.json, report.html and report.json into `out`.

    seed: of the games and of the noise; no value of it leads to a game of the training data. Returns what report.json
    holds. Raises UsageError for bad arguments and VidarError for a missing game or world, before anything is played.
    """
    folder = _folder(out)
    if episodes < 2 or frames < LEAST_FRAMES or not 0 <= seed <= LAST_SEED:
        raise UsageError(
            f"the demo needs at least 2 episodes, at least {LEAST_FRAMES} frames and a seed of 0 to {LAST_SEED}, "
            f"not {episodes}, {frames} and {seed}"
        )
    scenario_file(SCENARIO)  # says so where the game is missing
    console, started = Console(stderr=True), time.perf_counter()
    world = load(model, device)
    game = game_config(world.config, world.config.context + frames)
    console.print(f"world '{world.config.name}', {world.num_parameters / 1e6:.2f} M parameters")
    with _bar(console, f"playing {SCENARIO}") as tick:
        played, seeds = play(game, world.config, episodes, FIRST_GAME + GAMES_PER_SEED * seed, tick)
    context = world.config.context
    with _bar(console, "dreaming the same actions, then wrong ones") as tick:
        scores = evaluate(world, played, context, frames, seed, steps=steps, progress=tick)
    latencies = latency(world, played[0], context, frames, seed, steps=steps)
    report = {
        "world": world.config.name,
        "params": world.num_parameters,
        "fps": world.config.fps,
        "threads": torch.get_num_threads(),
        "hardware": hardware(device),
        "latency_ms": {q: round(float(np.percentile(latencies, int(q[1:]))), 2) for q in ("p50", "p95")},
        **summary(scores),
        "context": context,
        "steps": steps or world.config.objective.steps,
        "seed": seed,
        "seeds": seeds,
        "scenario": SCENARIO,
        "versions": versions(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).unlink(missing_ok=True)
    write_video(folder / "dream.mp4", film(scores, world.config.actions, world.config.fps), world.config.fps, crf=23)
    recipe = {"seed": seed, "seeds": seeds, "game": to_dict(game), "world": to_dict(world.config)}
    _write(folder / "dream.json", _json({**recipe, "steps": report["steps"], "versions": report["versions"]}))
    html = world_page(report, scores, latencies, (folder / "dream.mp4").read_bytes())
    report["seconds"] = round(time.perf_counter() - started, 1)
    _write(folder / "report.html", html)
    _write(folder / MARK, _json(report))
    _say(console, report, folder)
    return report


def game_config(world: WorldConfig, frames: int) -> VizdoomConfig:
    """The game as the world knows it: its size and its frame rate."""
    skip = max(1, round(TICS_PER_SECOND / world.fps))
    return VizdoomConfig(scenario=SCENARIO, height=world.height, width=world.width, frame_skip=skip, frames=frames)


def play(
    game: VizdoomConfig, world: WorldConfig, count: int, first: int, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Episode], list[int]]:
    """`count` whole episodes of the games from `first` on, and their seeds; a game that ends early is left out.

    Raises VidarError where the world's actions or frame rate are not the game's, or too many games end early.
    """
    found: list[Episode] = []
    seeds: list[int] = []
    with game.build() as running:
        if running.spec.names != world.actions.names or game.fps != world.fps:
            raise VidarError(
                f"world '{world.name}' knows {', '.join(world.actions.names)} at {world.fps:g} frames/s, "
                f"{SCENARIO} has {', '.join(running.spec.names)} at {game.fps:g}; the demo needs a world of this game"
            )
        for seed in range(first, first + min(10 * count, GAMES_PER_SEED)):
            episode = running.episode(seed)
            if len(episode.frames) == game.frames:
                found.append(episode)
                seeds.append(seed)
                if progress is not None:
                    progress(len(found), count)
            if len(found) == count:
                return found, seeds
    raise VidarError(f"{SCENARIO}: too many games end before frame {game.frames}; ask for fewer frames")


def _folder(out: str | os.PathLike[str]) -> Path:
    """The output folder, refused where a file is in the way or nothing can be written."""
    folder = Path(out)
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"{place} is a file; the demo writes a folder: choose another --out")
            if not os.access(place, os.W_OK):
                raise VidarError(f"{place}: no permission to write; choose another --out")
            break
    return folder


@contextmanager
def _bar(console: Console, what: str):
    """A progress bar; yields tick(done, all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say(console: Console, report: dict[str, Any], folder: Path) -> None:
    for name, gain in report["gains"].items():
        first, last = gain["frames"]
        console.print(
            f"PSNR over {name}, frames {first}-{last}: {gain['mean']:+.2f} dB "
            f"(95 % {gain['low']:+.2f} .. {gain['high']:+.2f})",
            highlight=False,
        )
    ms = report["latency_ms"]
    console.print(f"one frame: {ms['p50']:.1f} ms (p95 {ms['p95']:.1f}) on {report['hardware']}", highlight=False)
    console.print(f"wrote {folder}: dream.mp4, report.html, report.json", highlight=False, soft_wrap=True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _write(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text)
