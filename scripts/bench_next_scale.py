"""Next-scale decoding compared with raster decoding of the same labels: calls and seconds per frame.

    python scripts/bench_next_scale.py [RECIPE] [PRESET] [FRAMES]

Both have the same backbone (width, layers, heads; random weights, because time does not depend on them), a cache, the
same window of frames and the same label parts per site. Next-scale: one call per scale; the memory unit of the
previous frame is committed in the first call. Raster: the same sites of all scales, one call each, and every site
sees all earlier ones. Run alternately (A, B, A, B).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vidar
from vidar.cache.ring import RingState
from vidar.configs.catalog import find, find_world
from vidar.core.decode import Decoder
from vidar.core.grid import Grid
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.core.schedules import OneByOne
from vidar.core.step import Row, Step
from vidar.eval.provenance import hardware
from vidar.nn.backbone import Backbone, BackboneConfig
from vidar.objectives.next_scale import NextScale
from vidar.rng import Rng
from vidar.types import MEMORY, Past

TURNS, WARM = 4, 2


@torch.inference_mode()
def main(recipe: str = "videoar_doom", preset: str = "demo", frames: str = "20") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    world = find_world(find(recipe)(preset=preset))
    if world is None or not world.by_scales:
        raise SystemExit(f"{recipe} does not predict scales; use videoar_doom or videoar_shapes")
    system = world.system()
    order, grid, objective = system.order, system.grid, system.objective
    assert isinstance(objective, NextScale)
    calls = OneByOne().group(objective, system.frames)
    scales = Runner(order, grid, objective, calls, world.net.backbone)
    per_frame = sum(h * w for _, h, w in objective.pyramid.sizes)
    raster = Raster(objective)
    steps = [Step((Row(0, MEMORY, 0),), 1)] * per_frame
    other = Runner(
        *raster_order(objective, grid, order.reach // len(system.frames.units(0))), raster, steps, world.net.backbone
    )
    print(f"vidar {vidar.__version__}, {recipe} {preset}, {hardware('cpu')}, one thread, {frames} frames per turn")
    seconds: dict[str, list[float]] = {"next-scale": [], "raster": []}
    for _ in range(TURNS):
        seconds["next-scale"].append(scales.run(int(frames)))
        seconds["raster"].append(other.run(int(frames)))
    for name, runner in (("next-scale", scales), ("raster", other)):
        each = ", ".join(f"{1e3 * value:.1f}" for value in seconds[name])
        print(f"{name}: {len(runner.steps)} calls per frame; {each} ms")
    ratios = np.array(seconds["raster"]) / np.array(seconds["next-scale"])
    print(f"raster / next-scale: {np.median(ratios):.2f} (turns {', '.join(f'{r:.2f}' for r in ratios)})")


class Runner:
    """One endless stream with fresh weights."""

    def __init__(self, order: Order, grid: Grid, objective: Any, steps: list[Step], config: BackboneConfig):
        torch.manual_seed(0)
        self.steps = steps
        self.net: Backbone = config.replace(in_width=objective.input_width).build().to(torch.bfloat16).eval()
        given = getattr(objective, "given", {})
        self.decoder = Decoder(self._call, order, [grid], objective, [Rng(0)], given)
        self.state = RingState.create(order, [grid], self.net.ring_shapes(), torch.bfloat16, torch.device("cpu"))
        self.run(WARM)

    def _call(self, inputs: Tensor, layout: object, cond: object = None, state: object = None) -> Tensor:
        return self.net(inputs, layout, None, state).float()  # pyright: ignore[reportArgumentType]

    def run(self, frames: int) -> float:
        """Seconds per frame."""
        start = time.perf_counter()
        for _ in range(frames):
            for step in self.steps:
                self.decoder.step(step, self.state)
        return (time.perf_counter() - start) / frames


@dataclass
class Raster:
    """Labels of one site in one call, from the code of the previous site. For timing only; it cannot be trained."""

    scales: NextScale
    passes = ((MEMORY, 0),)

    def __post_init__(self) -> None:
        self.input_width = self.scales.channels
        self.code = self.scales.pyramid.quantiser.code

    def start(self, unit: int, past: Past, rng: Rng) -> Tensor:
        """The code of the previous site, [1, C]."""
        return torch.zeros(1, self.input_width) if unit == 0 else self.code(past.codes[unit - 1])

    def inputs(self, unit: int, x: Tensor, step: int) -> Tensor:
        """Return x."""
        return x

    def update(self, unit: int, x: Tensor, out: Tensor, step: int, rng: Rng) -> Tensor:
        """Labels [1, G]."""
        return self.scales.parts.draw(out.to(x.device), (), unit, rng)

    def finish(self, x: Tensor) -> Tensor:
        """The labels."""
        return x

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """The input that it was predicted from."""
        return self.start(unit, past, rng)


def raster_order(objective: NextScale, grid: Grid, window: int) -> tuple[Order, Grid]:
    """Every site of every scale is a unit, frame after frame; a unit sees all sites of the last `window` frames."""
    inside = torch.cat([grid.sites(k) for k in range(objective.scales)])
    period, per_frame = len(inside), len(inside) + len(grid.sites(objective.scales))

    def sees(q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & (k // period >= q // period - window)

    def coord(site: Tensor) -> Tensor:
        return grid.coord(site // period * per_frame + inside[site % period])

    order = Order(
        {"main": Relation(sees, capacity=(window + 1) * period)},
        needs=lambda q, k: k == q - 1,
        reach=(window + 1) * period,
        warmup=(window + 1) * period,
    )
    return order, Grid(
        axes=grid.axes, sites=lambda unit: torch.tensor([unit]), cell=lambda site: site, coord=coord, num_sites=None
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
