"""The demo: a shipped world dreams beside the real game, on episodes it has never seen."""

from __future__ import annotations

import os
from typing import Any

from vidar.eval.output import folder
from vidar.eval.protocol import DEMO
from vidar.eval.world_suite import Files, command, judge


def demo(
    out: str | os.PathLike[str] = "runs/demo",
    model: str | os.PathLike[str] = "doom",
    episodes: int = DEMO.episodes,
    frames: int = DEMO.frames,
    seed: int = DEMO.seed,
    device: str = "cpu",
) -> dict[str, Any]:
    """Play held-out games, dream them, and write dream.mp4, dream.json, report.html and report.json into `out`.

    seed: of the games and of the noise; no value of it leads to a game of the training data. Returns what report.json
    holds. Raises UsageError for bad arguments and VidarError for a missing game or world, before anything is played.
    """
    protocol = DEMO.replace(episodes=episodes, frames=frames, seed=seed)
    again = command(protocol, DEMO, ("vidar", "demo"), out=out, model=model)
    return judge(model, Files(folder(out), "vidar demo", again), protocol, device=device)
