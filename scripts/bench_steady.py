"""Does a late frame take as long as an early one? Two dreams of one world, one `LATE` frames old and one young.

    python scripts/bench_steady.py [MODEL] [LATE] [FRAMES]

Prints the median time of FRAMES frames of each, measured alternately (A, B, A, B), and the ratio late / early; and
the peak of resident memory after 100 frames and at the end. The young dream restarts before each of its turns, so
that its frames are always 100 to 100 + FRAMES.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import torch

import vidar
from vidar.eval.provenance import hardware
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.rollout.driver import Rollout

EARLY = 100


def main(model: str = "doom", late: str = "10000", frames: str = "200") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    world, count = load(model), int(frames)
    print(f"vidar {vidar.__version__}, world {model}, {hardware('cpu')}, one thread, medians of {count} frames")
    size = world.config.height, world.config.width
    known = None if world.start else np.zeros((1, *size, 3), np.uint8)  # the content does not matter here
    old, young = world.rollout(1), world.rollout(1)
    for streams in (old, young):
        streams.begin(0, known, None, 1)
        advance(world, streams, EARLY)
    first = peak()
    advance(world, old, int(late) - EARLY)
    medians: dict[str, list[float]] = {"early": [], "late": []}
    for turn in range(4):
        young.begin(0, known, None, turn)
        advance(world, young, EARLY)
        medians["early"].append(advance(world, young, count))
        medians["late"].append(advance(world, old, count))
        print(f"early {1e3 * medians['early'][-1]:.1f} ms, late {1e3 * medians['late'][-1]:.1f} ms")
    print(f"peak of resident memory: {first} MiB after {EARLY} frames, {peak()} MiB after {late} and all turns")
    print(f"frame {late} / frame {EARLY}: {np.median(medians['late']) / np.median(medians['early']):.3f}")


def peak() -> int:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def advance(world: VideoModel, streams: Rollout, count: int) -> float:
    """Generate and decode `count` frames; returns their median seconds. Keys change every seven frames."""
    spent: list[float] = []
    for number in range(count):
        rng = np.random.default_rng(number // 7)
        keys = rng.integers(0, 2, (1, world.config.actions.width)).astype(np.float32)
        start = time.perf_counter()
        world.decode(streams.frame(torch.from_numpy(keys))[:, None])
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
