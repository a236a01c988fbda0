"""The suite `world`: a world dreams beside the real game on episodes that it has never seen, and is compared with it.

Writes dream.mp4, dream.json, report.html and, last, report.json. The demo does the same with other numbers.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vidar.config import to_dict
from vidar.data.video import write_video
from vidar.eval import ruler
from vidar.eval.action_score import Reader, chance, read_back, reader
from vidar.eval.held_out import HeldOut, Tick, games, recorded
from vidar.eval.output import MARK, bar, begin, folder, write
from vidar.eval.protocol import WORLD, WorldProtocol
from vidar.eval.provenance import hardware, shown, versions, without
from vidar.eval.ruler_play import RulerConfig
from vidar.eval.side_by_side import film
from vidar.eval.suite_figures import of_world, world_strips
from vidar.eval.world_eval import WorldScores, evaluate, latency, summary
from vidar.eval.world_report import world_page
from vidar.model.load import load_world
from vidar.model.model import VideoModel
from vidar.types import UsageError

OPTIONS = ("episodes", "frames", "seed", "steps")  # options of the command line
FILMED = 16  # number of episodes in dream.mp4, from the first on


@dataclass(frozen=True)
class Files:
    """The folder of a report, its title, and the command that produces it."""

    folder: Path
    title: str
    command: str


def run(
    model: str,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    episodes: int = WORLD.episodes,
    frames: int = WORLD.frames,
    seed: int = WORLD.seed,
    steps: int | None = None,
    idm: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    no_memory: bool = False,
) -> dict[str, Any]:
    """Evaluate a world with the fixed protocol; arguments that change the protocol are named in the report.

    data: a folder of shards whose episodes of `split` (default: heldout) replace the fixed games. idm: folder of an
    inverse-dynamics model for the action scores. no_memory: run the world without its memory. Returns the content of
    report.json. Raises UsageError or VidarError
    in one line, before anything is dreamed.
    """
    if split is not None and data is None:
        raise UsageError("--split selects a part of recorded shards; give the shards with --data")
    protocol = WORLD.replace(episodes=episodes, frames=frames, seed=seed, steps=steps)
    split = "heldout" if data is not None and split is None else split
    words = ("vidar", "eval", shown(model), "--suite", "world", *(("--no-memory",) if no_memory else ()))
    again = command(
        protocol, WORLD, words, out=out, data=data, split=split, idm=idm, device=None if device == "cpu" else device
    )
    files = Files(folder(out), "vidar eval, suite world", again)
    return judge(model, files, protocol, data, split, idm, device, memory=not no_memory)


def judge(
    model: str | os.PathLike[str],
    files: Files,
    protocol: WorldProtocol,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    idm: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    players: RulerConfig | None = None,
    memory: bool = True,
) -> dict[str, Any]:
    """The whole evaluation: load, check, play or read, dream, score, write. Returns the content of report.json.

    players: the ruler, run in the folder `ruler`, whose strips and likeness the page shows. memory: see `load`.
    """
    console, started = Console(stderr=True), time.perf_counter()
    world = load_world(model, device, memory=memory)
    source = (
        games(world.config, protocol) if data is None else recorded(data, split or "heldout", world.config, protocol)
    )
    keys = reader(world.config, idm)
    console.print(f"world '{world.config.name}', {world.num_parameters / 1e6:.2f} M parameters", highlight=False)
    with bar(console, f"playing {protocol.scenario}" if data is None else f"reading {data}") as tick:
        held_out = source.take(tick)
    with bar(console, "dreaming the same actions, then wrong ones") as tick:
        scores, latencies = _dream(world, held_out, protocol, tick)
    place = files.folder / "ruler"
    played = None if players is None else ruler.run(str(model), place, device=device, config=players)
    facts = {name: shown(value) if name == "data" else value for name, value in held_out.facts.items()}
    report = {
        "world": world.config.name,
        "params": world.num_parameters,
        "fps": world.config.fps,
        "threads": torch.get_num_threads(),
        "hardware": hardware(device),
        "latency_ms": {q: round(float(np.percentile(latencies, int(q[1:]))), 2) for q in ("p50", "p95")},
        **summary(scores),
        **(_read_back(keys, scores, held_out, world.config.context) | without(not memory)),
        **({} if played is None else {"ruler": {"rows": played["rows"], "command": played["command"]}}),
        "context": world.config.context,
        "steps": protocol.steps or world.config.steps,
        "seed": protocol.seed,
        **{name: value for name, value in facts.items() if name != "game"},
        "protocol": to_dict(protocol),
        "command": files.command,
        "versions": versions(),
        **of_world(scores, world.config.context, world.config.fps).entries(),
    }
    begin(files.folder)
    report |= world_strips(scores, files.folder)
    movie, config = files.folder / "dream.mp4", world.config
    write_video(movie, film(scores, config.spec, config.fps, episodes=FILMED), config.fps, crf=23)
    told = {name: report[name] for name in ("seed", "steps", "versions")}
    write(files.folder / "dream.json", {**facts, "world": to_dict(config), **told})
    strips = None if played is None else ruler.strips_of(place, list(played["players"]), config.fps)
    write(files.folder / "report.html", world_page(files.title, report, scores, latencies, movie.read_bytes(), strips))
    report["seconds"] = round(time.perf_counter() - started, 1)
    write(files.folder / MARK, report)
    _say(console, report, files.folder)
    return report


def _dream(world: VideoModel, held_out: HeldOut, protocol: WorldProtocol, tick: Tick) -> tuple[WorldScores, np.ndarray]:
    """Scores of all episodes, and the milliseconds of each frame of one stream."""
    given = (world.config.context, protocol.frames, protocol.seed)
    scores = evaluate(world, held_out.episodes, *given, steps=protocol.steps, progress=tick)
    return scores, latency(world, held_out.episodes[0], *given, steps=protocol.steps)


def _read_back(keys: Reader, scores: WorldScores, held_out: HeldOut, context: int) -> dict[str, Any]:
    """The action scores, the score of guessing, and the model that read the keys.

    They are null, with the reason, if there is no such model.
    """
    net = keys.net
    guessed = None if net is None else {name: round(value, 4) for name, value in chance(net).items()}
    return {
        "action_score": None if net is None else read_back(net, scores, held_out.episodes, context),
        "action_score_chance": guessed,
        "action_score_by": shown(keys.name) or None,
        "action_score_left_out": keys.reason or None,
    }


def command(protocol: WorldProtocol, usual: WorldProtocol, words: Sequence[str], **more: Any) -> str:
    """A command line: the words, the given options, and the differences between a protocol and the usual one."""
    changed = {name: getattr(protocol, name) for name in OPTIONS if getattr(protocol, name) != getattr(usual, name)}
    given = {name: shown(value) for name, value in {**more, **changed}.items() if value is not None}
    return shlex.join([*words, *(word for name, value in given.items() for word in (f"--{name}", value))])


def _say(console: Console, report: dict[str, Any], place: Path) -> None:
    for name, gain in report["gains"].items():
        first, last = gain["frames"]
        console.print(
            f"PSNR over {name}, frames {first}-{last}: {gain['mean']:+.2f} dB "
            f"(95 % {gain['low']:+.2f} .. {gain['high']:+.2f})",
            highlight=False,
        )
    if "ruler" in report:
        rows = report["ruler"]["rows"]
        told = ", ".join(f"{row} {rows[row]['likeness']:.2f}" for row in rows)
        console.print(f"likeness to the game, as people play: {told}", highlight=False)
    console.print(f"sharpness: {report['sharpness_ratio']:.0%} of the game's", highlight=False)
    if report["action_score"] is None:
        console.print(
            f"action scores were not computed: {report['action_score_left_out']}", highlight=False, soft_wrap=True
        )
    else:
        found = {name: score["mean"] for name, score in report["action_score"].items()}
        told = ", ".join(f"{name} {'-' if mean is None else f'{mean:.3f}'}" for name, mean in found.items())
        console.print(f"keys read back (balanced accuracy): {told}", highlight=False)
    ms = report["latency_ms"]
    console.print(f"one frame: {ms['p50']:.1f} ms (p95 {ms['p95']:.1f}) on {report['hardware']}", highlight=False)
    console.print(f"wrote {place}: dream.mp4, report.html, report.json", highlight=False, soft_wrap=True)
