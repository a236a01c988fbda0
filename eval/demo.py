"""The demo: a shipped world dreams beside the real game, on episodes that it has never seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vidar.eval.output import folder
from vidar.eval.protocol import DEMO
from vidar.eval.record import check_record, of_world, record
from vidar.eval.ruler_play import RulerConfig
from vidar.eval.world_suite import Files, command, judge

SHIPPED = "doom"
PLAYERS = RulerConfig(
    reference=16,
    others=8,
    clips=4,
    starts=4,
    seconds=5.0,
    long_seconds=5.0,
    only=("idle", "hold MOVE_FORWARD", "mash", "recorded play"),
)


def demo(
    out: str | os.PathLike[str] = "runs/demo",
    model: str | os.PathLike[str] = SHIPPED,
    episodes: int = DEMO.episodes,
    frames: int = DEMO.frames,
    seed: int = DEMO.seed,
    device: str = "cpu",
    recipe: str | None = None,
    players: RulerConfig = PLAYERS,
) -> dict[str, Any]:
    """Play held-out games, dream them, and write dream.mp4, dream.json, report.html and report.json into `out`.

    seed: of the games and of the noise; no seed selects a game of the training data. recipe: the recipe of these
    weights, beside which the figures are stored. players: how the ruler
    plays. Returns the content of report.json. Raises UsageError for bad
    arguments, and VidarError for a missing game or world, before anything is played.
    """
    check_record(recipe)
    protocol = DEMO.replace(episodes=episodes, frames=frames, seed=seed)
    again = command(protocol, DEMO, ("vidar", "demo"), out=out, model=model)
    report = judge(model, Files(folder(out), "vidar demo", again), protocol, device=device, players=players)
    if recipe is not None:
        words = command(protocol, DEMO, ("vidar", "demo"), model=None if model == SHIPPED else model)
        record(recipe, words, of_world(report), Path(model))
    return report
