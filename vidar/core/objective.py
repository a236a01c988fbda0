"""Objective: what a unit contains and how it is generated. Every member that other code uses is listed here."""

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

Prepared = tuple[Tensor, Target, Tensor | None]  # seen [B, S, I], target, keep bool [B, cells, cells] or None


class Objective(Protocol):
    """What a unit contains. The decode loop calls the model.

    An objective never does, and it owns no model parameters.

    Codes are the contents of units: latents float [n, C], or labels long [n, G], for the n sites of a unit.
    """

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The calls of a unit: (QUERY, k) refines, (MEMORY, k) predicts and commits, (MEMORY, None) commits."""
        ...

    @property
    def input_width(self) -> int:
        """I, the number of columns of the raw slot inputs."""
        ...

    @property
    def output_width(self) -> int:
        """O, the number of columns of the model output."""
        ...

    @property
    def given(self) -> Given:
        """The units that are never predicted, because their code follows from what the row knows."""
        ...

    @property
    def needs(self) -> Rule:
        """Content edges over units (u, v): the initial state of u depends on the code of v."""
        ...

    def start(self, unit: int, past: Past, rng: Rng) -> Any:
        """The state before the first refinement step: an immutable record, including the solver's history."""
        ...

    def inputs(self, unit: int, x: Any, step: int) -> Tensor:
        """Raw slot inputs [n, I] of a refinement step."""
        ...

    def update(self, unit: int, x: Any, out: Tensor, step: int, rng: Rng) -> Any:
        """One solver step, one unmasking round, or the prediction itself, from the model output `out` [n, O]."""
        ...

    def finish(self, x: Any) -> Tensor:
        """Convert the state of a refined unit to its code."""
        ...

    def memory(self, unit: int, code: Tensor, past: Past, rng: Rng) -> Tensor:
        """Raw slot inputs [n, I] of the commit; what is committed may differ from what is emitted."""
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
        shown: Tensor | None = None,
    ) -> Prepared:
        """Training inputs and targets of all rows of a layout.

        Rows that only commit are context; every other row has a loss.

        codes: latents [B, N, C] in site order, before quantisation. play: apply the context transform as in play;
        flip and hide nothing. levels [B, rows]: use these instead of random levels. context [B, N, C]: what later
        units see instead of `codes`. shown [B, N, W]: what a memory shows of each site. Raises
        ValueError if the objective does not support an argument.
        """
        ...

    def loss(self, out: Tensor, target: Target) -> Loss:
        """The loss of model outputs [B, S, O], over the slots that have a target."""
        ...


class Denoiser(Objective, Protocol):
    """An objective whose units have a noise level between data (0) and noise (1)."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the prepared inputs."""
        ...

    def training_levels(self, units: Sequence[int], rngs: Sequence[Rng]) -> Tensor:
        """Draw training levels, float64 [B, U]."""
        ...
