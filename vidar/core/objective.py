"""Objective: what a unit is. Every member that anything outside an objective uses is listed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vidar.core.layout import Layout
from vidar.core.relation import Rule
from vidar.core.state import Given
from vidar.rng import Rng
from vidar.types import Loss, Pass, Past, Target

Prepared = tuple[Tensor, Target, Tensor | None]  # seen [B, S, I], what is asked, keep bool [B, cells, cells] or None


class Objective(Protocol):
    """What a unit is. decode calls the model; an objective never does, and it owns no parameters of the model.

    Codes are what units hold: latents float [n, C], or labels long [n, G]; n are the sites of a unit.
    """

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The calls of a unit: (QUERY, k) refines, (MEMORY, k) predicts and commits, (MEMORY, None) commits."""
        ...

    @property
    def input_width(self) -> int:
        """I: columns of the raw slot inputs."""
        ...

    @property
    def output_width(self) -> int:
        """O: columns of the model's answers."""
        ...

    @property
    def given(self) -> Given:
        """Units that are never asked: their code follows from what the row knows."""
        ...

    @property
    def needs(self) -> Rule:
        """Content edges over units (u, v): what a unit begins with depends on the code of another one."""
        ...

    def start(self, unit: int, past: Past, rng: Rng) -> Any:
        """What is in flight before the first step: the objective's own immutable record, stepper history included."""
        ...

    def inputs(self, unit: int, x: Any, step: int) -> Tensor:
        """Raw slot inputs of a refinement step, [n, I]."""
        ...

    def update(self, unit: int, x: Any, out: Tensor, step: int, rng: Rng) -> Any:
        """One solver step, one unmask round, or the prediction itself; out [n, O]."""
        ...

    def finish(self, x: Any) -> Tensor:
        """What was in flight -> the code."""
        ...

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """Raw slot inputs of the commit, [n, I]: what is committed need not be what is emitted."""
        ...

    def latents(self, codes: Mapping[int, Tensor]) -> Tensor:
        """Codes of neighbouring units that hold whole frames -> their latents float [N, C], in site order."""
        ...

    def prepare(
        self,
        codes: Tensor,
        layout: Layout,
        rngs: Sequence[Rng],
        *,
        play: bool = False,
        levels: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Prepared:
        """Training inputs of all rows of a layout; rows that only commit are context, every other row is asked.

        codes: latents [B, N, C] in site order, before any quantisation. play: the context transform stands at its
        setting of play, nothing is flipped or hidden. levels [B, rows]: in place of drawn ones. context [B, N, C]: what
        later units see, in place of `codes`. Raises ValueError where an objective knows no such thing.
        """
        ...

    def loss(self, out: Tensor, target: Target) -> Loss:
        """Answers [B, S, O] -> Loss, over the asked slots."""
        ...


class Denoiser(Objective, Protocol):
    """An objective whose units stand at a level between data (0) and noise (1)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of what it prepares."""
        ...

    def training_levels(self, units: Sequence[int], rngs: Sequence[Rng]) -> Tensor:
        """The levels that training draws, float64 [B, U]."""
        ...
