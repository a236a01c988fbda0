"""The suite `quick`: the ruler with fewer starts and shorter plays, under two minutes."""

from __future__ import annotations

import os
from typing import Any

from vidar.eval import ruler
from vidar.eval.ruler_play import RulerConfig

CONFIG = RulerConfig(reference=24, others=12, clips=4, starts=4, seconds=5.0, long_seconds=5.0)


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
) -> dict[str, Any]:
    """As `ruler.run`."""
    given: dict[str, Any] = {"starts": starts, "frames": frames, "seed": seed, "steps": steps, "device": device}
    given |= {"game": game, "against": against, "workers": workers, "no_memory": no_memory}
    return ruler.run(model, out, config=CONFIG, suite="quick", **given)
