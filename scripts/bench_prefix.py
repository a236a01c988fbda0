"""Time saved by one cache for all denoising steps: time per chunk over the length of the video.

    python scripts/bench_prefix.py [LONGEST] [ROUNDS] [STEPS]

Two ways to generate the next chunk of `ca2vdm_doom` (random weights, one thread), alternately for every length:

  cached     the keys of the last P_max frames are kept; each step runs the chunk alone, then one call commits it
  recomputed each step runs the whole prefix with the chunk, and every frame sees all before it (no window)

Prints medians, the slopes of log time over log length, and the ratio at 80 frames. Expected: cached within 0.1 of 0
from the window on; recomputed at least 0.8 where it costs more than three chunks without a prefix. Both use attention
forms that skip hidden pairs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch

import vidar
from vidar.cache.ring import RingState
from vidar.conditioning.action import Actions
from vidar.configs.ca2vdm import ca2vdm_doom
from vidar.core.decode import Decoder
from vidar.core.layout import View, compile_layout
from vidar.core.step import Row, chunk, prefill
from vidar.eval.provenance import hardware
from vidar.model.model import VideoModel
from vidar.nn.attention import Attention, AttentionConfig
from vidar.nn.folded import FoldedConfig
from vidar.nn.slices import SlicesConfig
from vidar.objectives.flow import Flow
from vidar.orders.prefix import PrefixOrderConfig
from vidar.rng import Rng
from vidar.train.methods.prefix import TrainPrefixConfig
from vidar.types import MEMORY, QUERY

LENGTHS = (16, 32, 64, 80, 128, 256, 512)
COMPARED = 80
REPEATS = {"cached": 5, "recomputed": 1}  # runs per turn


class SparseConfig(AttentionConfig):
    """Folds are gathered and everything else runs by slices, so hidden pairs cost nothing."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        return (FoldedConfig() if view.relation.fold else SlicesConfig()).build(view, device, grad)


def system(steps: int) -> tuple[VideoModel, PrefixOrderConfig]:
    """The world of the recipe with open gates and the attention forms of this script."""
    method = ca2vdm_doom().method
    assert isinstance(method, TrainPrefixConfig)
    world = method.world.with_steps(steps)
    backbone = world.net.backbone.replace(attention=SparseConfig(), gate_std=0.02)
    torch.manual_seed(0)
    return world.replace(net=world.net.replace(backbone=backbone)).build(), method.order


def told(world: VideoModel, frames: int) -> Actions:
    """No keys pressed."""
    return Actions(torch.zeros(1, frames, world.config.actions.width), torch.zeros(1, frames, dtype=torch.bool))


def cached(world: VideoModel, order: PrefixOrderConfig, length: int) -> Callable[[], None]:
    """The next chunk after `length` committed frames; the state is restored after each run."""
    system = world.config.system()
    graph, grid, objective = system.order, system.grid, system.objective
    actions = told(world, length + 2 * order.chunk)
    state = RingState.create(graph, [grid], world.net.ring_shapes())
    decoder = Decoder(world.model, graph, [grid], objective, [Rng(0)], {}, lambda layout: actions)
    shape = (1, grid.sites(0).shape[0], world.config.channels)
    for start in (0, *range(order.first, length, order.chunk)):
        units = range(order.first if start == 0 else order.chunk)
        for u in units:
            state.give(start + u, torch.randn(shape))
        decoder.step(prefill(units, advance=len(units)), state)
    calls = len(objective.passes) - 1
    steps = list(islice(chunk(None, order.chunk, calls), calls + 1))

    def run() -> None:
        mark = state.mark()
        for step in steps:
            decoder.step(step, state)
        state.rewind(mark)
        state.release(mark)

    return run


def recomputed(world: VideoModel, order: PrefixOrderConfig, length: int) -> Callable[[], None]:
    """The next chunk with the whole prefix in every call; length 0: the chunk alone."""
    total = length + order.chunk
    wide = order.replace(window=order.whole(max(total, order.first)) + order.chunk)
    config = world.config.replace(order=wide)
    system = config.system(total)
    graph, grid, objective = system.order, system.grid, system.objective
    assert isinstance(objective, Flow)
    rows = [Row(u, MEMORY, None) for u in range(length)] + [Row(u, QUERY, 0) for u in range(length, total)]
    actions = told(world, total)
    inputs = torch.randn(1, total * grid.sites(0).shape[0], objective.input_width)

    def run() -> None:
        layout = compile_layout(rows, graph, [grid])
        for level in objective.calls:
            inputs[:, -order.chunk * grid.sites(0).shape[0] :, -1] = level
            world.model(inputs, layout, actions)

    return run


def timed(run: Callable[[], None]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def slope(lengths: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log length."""
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0]) if len(lengths) > 1 else float("nan")


@torch.inference_mode()
def main(longest: str = "512", rounds: str = "5", steps: str = "4") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    world, order = system(int(steps))
    lengths = [order.whole(n) for n in LENGTHS if n <= int(longest)]
    print(f"vidar {vidar.__version__}, {hardware('cpu')}, one thread, medians of {rounds} turns")
    print(f"chunks of {order.chunk} frames, P_max {order.window}, {world.config.steps} steps, "
          f"{world.config.sites} sites a frame, {world.num_parameters:,} weights")  # fmt: skip
    ways = {"cached": cached, "recomputed": recomputed}
    runs = {(way, n): make(world, order, n) for way, make in ways.items() for n in lengths}
    alone = recomputed(world, order, 0)
    for run in (*runs.values(), alone):  # warm up
        run()
    spent: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    bare: list[float] = []
    for _ in range(int(rounds)):
        bare.append(timed(alone))
        for n in lengths:
            for way in ways:
                times = [timed(runs[way, n]) for _ in range(REPEATS[way])]
                spent[way, n].append(float(np.median(times)))
    report(order, lengths, {key: float(np.median(times)) for key, times in spent.items()}, float(np.median(bare)))


def report(order: PrefixOrderConfig, lengths: list[int], median: dict[tuple[str, int], float], bare: float) -> None:
    """Table, slopes, ratio."""
    print(f"\n{'frames before':>14} {'cached ms':>10} {'recomputed ms':>14} {'ratio':>7}")
    for n in lengths:
        ours, theirs = median["cached", n], median["recomputed", n]
        print(f"{n:>14} {1e3 * ours:>10.1f} {1e3 * theirs:>14.1f} {theirs / ours:>7.2f}")
    print(f"one chunk without a prefix: {1e3 * bare:.1f} ms")
    full = [n for n in lengths if n >= order.window]
    dear = [n for n in lengths if median["recomputed", n] > 3 * bare]
    print(f"slope of log time, cached from the window on: {slope(full, [median['cached', n] for n in full]):+.3f}")
    print(f"slope of log time, recomputed from {dear[0] if dear else '-'} frames on: "
          f"{slope(dear, [median['recomputed', n] for n in dear]):+.3f}")  # fmt: skip
    near = order.whole(COMPARED)
    if near in lengths:
        ratio = median["recomputed", near] / median["cached", near]
        print(f"at {near} frames: {ratio:.2f} times as fast with the cache")


if __name__ == "__main__":
    main(*sys.argv[1:])
