"""Small objectives for random systems. They read everything they are told of other units, and check that it is all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from vidar.types import MEMORY, QUERY


class Flying(NamedTuple):
    """x [n, C] and what the units that were needed said [C]."""

    x: torch.Tensor
    told: torch.Tensor


class Watching:
    """wanted: unit -> the units whose codes its inputs are built from. first: of each row, the first unit it has."""

    def __init__(self, sites: Callable[[int], torch.Tensor], wanted: Callable[[int], set[int]], channels: int):
        self.sites, self.wanted, self.channels, self.input_width = sites, wanted, channels, channels + 1
        self.first: list[int] = []

    def told(self, unit, past, rng):
        """Of all codes and outputs of the past, [C]; fails where a code is missing, or is there and not needed."""
        first = self.first[rng.video] if self.first else 0
        expected = {v for v in self.wanted(unit) if v >= first}
        assert set(past.codes) == expected, f"unit {unit} is told of {sorted(past.codes)}, it needs {sorted(expected)}"
        assert set(past.outs) <= expected, f"unit {unit} is told of outputs of {sorted(past.outs)}"
        parts = [*past.codes.items(), *past.outs.items()]
        return sum((torch.tanh(part.mean(0) + 0.1 * v) for v, part in sorted(parts, key=lambda pair: pair[0])),
                   torch.zeros(self.channels, dtype=torch.float64))  # fmt: skip

    def noise(self, purpose, unit, step, rng):
        return rng.normal(purpose, unit, step, (len(self.sites(unit)), self.channels))

    def start(self, unit, past, rng):
        told = self.told(unit, past, rng)
        return Flying(self.noise("start", unit, 0, rng) + told, told)

    def inputs(self, unit, x, step):
        return torch.cat([x.x, torch.full_like(x.x[:, :1], 1 / (1 + step))], -1)

    def update(self, unit, x, out, step, rng):
        return Flying(0.5 * x.x + torch.tanh(out) + 0.1 * self.noise("renoise", unit, step, rng), x.told)

    def finish(self, x):
        return x.x + 0.2 * x.told

    def memory(self, unit, code, past, rng):
        seen = torch.tanh(code) + 0.1 * self.noise("context", unit, 0, rng) + 0.3 * self.told(unit, past, rng)
        return torch.cat([seen, torch.full_like(seen[:, :1], -1.0)], -1)


class Refine(Watching):
    """Calls in flight, then a commit."""

    def __init__(self, sites, wanted, channels, calls):
        super().__init__(sites, wanted, channels)
        self.passes = (*((QUERY, i) for i in range(calls)), (MEMORY, None))


class PredictAndCommit(Watching):
    """The pass that predicts is the commit."""

    passes = ((MEMORY, 0),)


class CommitOnly(Watching):
    """A unit follows from the codes and outputs before it, and is only committed."""

    passes = ((MEMORY, None),)
