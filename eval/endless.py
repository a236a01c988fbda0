"""The suite `endless`: does a dream stay a game for thousands of frames? From a model to a report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from rich.console import Console

from vidar.config import to_dict
from vidar.data.vizdoom import scenario_file
from vidar.eval.action_score import reader
from vidar.eval.endless_measure import LEAST_FRAMES, Judge, beside, frame_times, lines, measure
from vidar.eval.endless_play import EndlessConfig, Tick, elsewhere, play
from vidar.eval.endless_report import endless_page, summary
from vidar.eval.output import MARK, bar, begin, folder, write
from vidar.eval.provenance import hardware, versions, without
from vidar.eval.suite_figures import endless_strips, of_endless
from vidar.model.load import load_world
from vidar.types import UsageError

USUAL = EndlessConfig()


def run(
    model: str,
    out: str | os.PathLike[str],
    *,
    rollouts: int = 8,
    frames: int = 2000,
    seed: int = 0,
    idm: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    no_memory: bool = False,
    progress: Callable[[int, int], None] | None = None,
    config: EndlessConfig = USUAL,
) -> dict[str, Any]:
    """Play, dream, measure and judge; write report.html and report.json into `out`. Returns the content of the latter.

    idm: folder of an inverse-dynamics model (default: the world's). progress(done, all): of frames; None: a bar on
    stderr. no_memory: run without the memory. Raises UsageError or VidarError, before anything is dreamed.
    """
    place, started = folder(out), time.perf_counter()
    scenario_file(config.scenario)  # says so where the game is missing
    world = load_world(model, device, memory=not no_memory)
    if (order := world.config.order).chain is not None:
        raise UsageError(f"world {world.config.name!r} plans segments; the endless suite dreams frame after frame")
    c, window = world.config.context, order.past or 1
    least = max(LEAST_FRAMES, 6 * window)
    if rollouts < 2 or frames < least:
        raise UsageError(f"the endless suite needs 2 rollouts and {least} frames or more, not {rollouts} and {frames}")
    keys = reader(world.config, idm)
    total = config.reference * config.reference_frames + rollouts * (c + 4 * frames) + 2 * (frames + 3 * window)
    with _counting(total, progress) as tick:
        played = play(world.config, rollouts, frames, seed, config, tick)
        judge = None if keys.net is None else _judge(keys.net)
        scores = measure(world, played, seed, judge, tick)
        times = frame_times(world, played, window, seed, tick=tick)
        game = measure(elsewhere(world.config, played, seed, config, tick), played, seed, judge, tick)
    found = beside(lines(scores, times, keys.reason), lines(game))
    report = {
        "world": world.config.name,
        "params": world.num_parameters,
        "fps": world.config.fps,
        "threads": torch.get_num_threads(),
        "hardware": hardware(device),
        "rollouts": rollouts,
        "frames": frames,
        "context": c,
        "window": window,
        "seed": seed,
        **(without(no_memory) | summary(scores, found, times)),
        "games": [list(names) for names in played.games],
        "idm": keys.name or None,
        "config": to_dict(config),
        "versions": versions(),
        **of_endless(scores).entries(),
    }
    html = endless_page(report, scores, found)
    begin(place)
    report |= {**endless_strips(scores, place), "seconds": round(time.perf_counter() - started, 1)}
    write(place / "report.html", html)
    write(place / MARK, report)
    return report


def _judge(net: Any) -> Judge:
    """A function that scores frames with an inverse-dynamics model."""
    from vidar.eval.inverse_dynamics import action_scores

    return lambda frames, actions, poses: action_scores(net, frames, actions, poses)


@contextmanager
def _counting(total: int, progress: Callable[[int, int], None] | None) -> Generator[Tick]:
    """Yields tick(count), which reports to `progress`, or to a bar on stderr."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        show(done, total)

    with nullcontext(progress) if progress is not None else bar(Console(stderr=True), "frames") as show:
        yield tick
