"""Frames per second of the world as an environment: one vector environment of N against N single ones.

    python scripts/bench_env.py [MODEL] [N] [FRAMES]

Prints frames per second of both from alternate runs (A, B, A, B), and the ratio of their medians.
"""

from __future__ import annotations

import sys
import time

import gymnasium
import numpy as np
import torch

import vidar
from vidar.eval.provenance import hardware
from vidar.model.load import load


def main(model: str = "doom", count: str = "8", frames: str = "50") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    world, n, length = load(model), int(count), int(frames)
    print(f"vidar {vidar.__version__}, world {model}, {hardware('cpu')}, one thread, {length} frames per run")
    vector = gymnasium.make_vec("Vidar/World-v0", num_envs=n, model=world)
    single = [gymnasium.make("Vidar/World-v0", model=world) for _ in range(n)]
    vector.reset(seed=0)
    for number, env in enumerate(single):
        env.reset(seed=number)
    keys = np.random.default_rng(0).integers(0, 2, (length, n, world.config.actions.width)).astype(np.int8)
    rates: dict[str, list[float]] = {"vector": [], "single": []}
    for _ in range(3):
        start = time.perf_counter()
        for row in keys:
            vector.step(row)
        rates["vector"].append(n * length / (time.perf_counter() - start))
        start = time.perf_counter()
        for row in keys:
            for env, key in zip(single, row):
                env.step(key)
        rates["single"].append(n * length / (time.perf_counter() - start))
    for name, values in rates.items():
        print(f"{name:>7}: {', '.join(f'{rate:.1f}' for rate in values)} frames/s")
    print(f"vector of {n} over {n} single ones: {np.median(rates['vector']) / np.median(rates['single']):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
