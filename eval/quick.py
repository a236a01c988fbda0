"""The suite `quick`: the ruler with few players and starts, under two minutes."""

from __future__ import annotations

from typing import Any

from vidar.eval import ruler
from vidar.eval.ruler_play import RulerConfig

CONFIG = RulerConfig(reference=24, others=12, clips=4, starts=4, seconds=5.0, long_seconds=5.0)


def run(model: str, out: Any, **options: Any) -> dict[str, Any]:
    """As `ruler.run`."""
    return ruler.run(model, out, config=CONFIG, suite="quick", **options)
