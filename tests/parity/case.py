"""A system of the property suite: order, objective, schedule, and the number of calls the formula gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from toys import OracleModel, OracleState, Recorder, ToyModel, codebook

from vidar.cache.ring import RingState
from vidar.core.decode import decode
from vidar.core.grid import Grid
from vidar.core.order import Order
from vidar.core.state import RowState
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.steppers import EulerConfig
from vidar.rng import Rng

CHANNELS = 3
BOOK = codebook()


@dataclass
class Case:
    """training: "twin", "single" or None (in-flight reading: its training calls are the oracle's calls)."""

    name: str
    order: Order
    grids: list[Grid]
    objective: Any
    schedule: Callable[[], Any]
    calls: int
    training: str | None = None
    model: Any = None
    given: dict = field(default_factory=dict)
    codes: dict = field(default_factory=dict)  # unit -> [B, n, C], known beforehand
    clock: int = 0
    cond: Any = None
    combine: Any = None
    seed: int = 11
    videos: list[int] | None = None

    def __post_init__(self):
        if self.model is None:
            out = BOOK.shape[0] if hasattr(self.objective, "book") else CHANNELS
            axes = len(self.grids[0].axes)
            self.model = ToyModel(self.objective.input_width, out, self.order.relations, axes)
        if self.cond is None:
            generator = torch.Generator().manual_seed(5)
            table = torch.randn(512, 24, generator=generator, dtype=torch.float64)
            self.cond = lambda layout: table[layout.row_cell.clamp(min=0) % 512]  # an action per cell

    @property
    def rngs(self):
        return [Rng(self.seed, b) for b in (self.videos or range(len(self.grids)))]

    def ring_state(self, traced=True):
        state = RingState.create(self.order, self.grids, self.model.ring_shapes(), torch.float64, traced=traced)
        return self.ready(state)

    def ready(self, state):
        for unit, codes in self.codes.items():
            state.give(unit, codes)
        for number, (row, grid) in enumerate(zip(state.rows, self.grids)):
            row.clock = self.clock
            if width := getattr(getattr(self.objective, "config", None), "shown", 0):
                units = range(self.order.num_units or self.clock + 48)
                row.shown = {unit: shown(grid, unit, width, self.objective.channels, number) for unit in units}
        return state

    def oracle(self):
        return self.ready(OracleState([RowState() for _ in self.grids]))

    def run(self, state, model=None, schedule=None, order=None, **changes):
        """All emitted codes and the recorder of the calls."""
        recorder = Recorder(model or self.model)
        arguments = {"given": self.given, "cond": self.cond, "combine": self.combine, "rngs": self.rngs, **changes}
        steps = self.schedule() if schedule is None else schedule
        with torch.no_grad():
            made = decode(recorder, order or self.order, self.grids, self.objective, steps, state, **arguments)
            codes = {(b, u): c for b, u, c in made}
        return codes, recorder

    def run_ring(self, **changes):
        return self.run(self.ring_state(), **changes)

    def run_oracle(self, **changes):
        return self.run(self.oracle(), OracleModel(self.model, self.order, changes.get("cond", self.cond)), **changes)

    def but(self, **changes):
        return replace(self, **changes)


def shown(grid, unit, width, channels, row=0):
    """What a memory shows of a unit, [n, W]: random, and nothing at every third site."""
    sites = grid.sites(unit).shape[0]
    generator = torch.Generator().manual_seed(1000 * row + unit)
    made = torch.randn(sites, width, generator=generator, dtype=torch.float64)
    made[::3, channels:] = 0
    return made


def flow(grid, steps=2, stepper=None, context=None):
    config = FlowConfig(steps=steps, context=context or ContextNoiseConfig(), stepper=stepper or EulerConfig())
    return config.build(CHANNELS, grid, torch.float64)


def latents(grid, units, batch=1, seed=2):
    """Random codes of given units."""
    generator = torch.Generator().manual_seed(seed)
    return {
        u: torch.randn(batch, grid.sites(u).shape[0], CHANNELS, generator=generator, dtype=torch.float64) for u in units
    }
