"""Generate units of a finite order in a state of their own: a segment, its plan, an image, a clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from vidar.cache.policy import Policy, evict
from vidar.cache.ring import RingState
from vidar.core.decode import Decoder
from vidar.core.layout import Layout
from vidar.core.objective import Objective
from vidar.core.step import by_waves
from vidar.core.system import System
from vidar.rng import Rng
from vidar.rollout.guide import guided
from vidar.rollout.setting import Network
from vidar.sampling.guidance import GuideConfig


class Task:
    """A run of a finite order, or of a part of it.

    rngs: one per row. cond: returns the conditions of a layout; with `guide` they have twice as many rows, the
    unconditional rows last. seconds: duration of each call.
    """

    def __init__(
        self,
        system: System[Objective],
        network: Network,
        rngs: Sequence[Rng],
        cond: Callable[[Layout], Any],
        guide: GuideConfig | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.system, self.rows, self.guide, self.policy = system, len(rngs), guide, policy
        rngs = [*rngs] if guide is None else [*rngs, *rngs]
        grids = [system.grid] * len(rngs)
        self.state = RingState.create(system.order, grids, network.rings, network.dtype, network.device)
        self.decoder = Decoder(network.call, system.order, grids, system.objective, rngs, {}, cond)
        self.given = dict[int, Tensor]()
        self.seconds = list[float]()

    def give(self, unit: int, codes: Tensor) -> None:
        """Supply the codes [B, n, ..] of a unit, which is then not generated."""
        self.given[unit] = codes
        self.state.give(unit, codes if self.guide is None else torch.cat([codes, codes]))

    def run(
        self, units: Collection[int] | None = None, wanted: Collection[int] | None = None, fused: bool = True
    ) -> dict[int, Tensor]:
        """Run the waves of some units (None: all) until the wanted units exist; returns codes [B, n, ..] by unit.

        fused: a commit is part of the next call. A commit that no unit reads is omitted.
        """
        made, order, objective = dict[int, list[Tensor]](), self.system.order, self.system.objective
        clocks = [0] * self.rows
        for step in by_waves(order, objective.passes, self.given, fused=fused, units=units):
            if wanted is not None and all(unit in made for unit in wanted):
                break
            began = time.perf_counter()
            asks = any(row.step is not None for row in step.rows)
            decoder = guided(self.decoder, self.guide if asks else None, self.system, step, clocks)
            evict(self.policy, self.state)
            for row, unit, code in decoder.step(step, self.state):
                if row < self.rows:
                    made.setdefault(unit, []).append(code)
            self.seconds.append(time.perf_counter() - began)
        return {unit: torch.stack(codes) for unit, codes in made.items()}
