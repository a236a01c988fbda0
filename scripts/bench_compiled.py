"""Milliseconds per frame of a world on one thread, eager and compiled, measured alternately (A, B, A, B).

    python scripts/bench_compiled.py [MODEL] [FRAMES] [ROWS]

FRAMES (200) per turn, ROWS (1) dreams in one forward pass. The first start compiles, which is not counted. The
picture is not decoded.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from vidar.eval.provenance import hardware
from vidar.model.load import load
from vidar.rollout.driver import Rollout

TURNS, WARM_UP = 3, 10


def median_ms(streams: Rollout, frames: int) -> float:
    """Median over `frames` frames."""
    rest = torch.from_numpy(streams.setting.rest.numpy()).expand(streams.capacity, -1)
    spent: list[float] = []
    for _ in range(WARM_UP + frames):
        begun = time.perf_counter()
        streams.frame(rest)
        spent.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(spent[WARM_UP:])


def main(model: str = "doom", frames: str = "200", rows: str = "1") -> None:
    """Print both sides and their ratio."""
    torch.set_num_threads(1)
    world = load(model)
    sides = {name: world.rollout(int(rows), compiled=name == "compiled") for name in ("eager", "compiled")}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, streams in sides.items():
            found[name].append(median_ms(streams, int(frames)))
    print(f"{hardware('cpu')}, torch {torch.__version__}, one thread, {model}, {rows} rows")
    for name, turns in found.items():
        print(f"{name:>8}: {', '.join(f'{ms:.2f}' for ms in turns)} ms per frame")
    eager, compiled = (statistics.median(turns) for turns in found.values())
    print(f"eager / compiled: {eager / compiled:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
