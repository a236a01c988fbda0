"""The one loop that decodes every system. Only this loop calls the model; objectives never do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.layout import Layout
from vidar.core.layouts import Layouts
from vidar.core.objective import Objective
from vidar.core.order import Order
from vidar.core.state import Content, DecodeState, Given, RowState
from vidar.core.step import Row, Step
from vidar.rng import Rng
from vidar.types import MEMORY, Model, Past

Emitted = tuple[int, int, Tensor]  # (batch row, unit, code [n, C])


@dataclass(frozen=True)
class Decoder:
    """The parts of decoding that do not change from step to step.

    grids, rngs: one per batch row. objective: one for all rows, or one per batch row (used for guidance by a
    different past). given: unit -> function of the row that returns its code. cond: layout -> conditions of the
    model. combine: merges the guidance branches (rows of the batch) of the model output, [B, S, O] -> [B, S, O].
    layouts: cache that successive decoders of the same order share.
    """

    model: Model
    order: Order
    grids: Sequence[Grid]
    objective: Objective | Sequence[Objective]
    rngs: Sequence[Rng]
    given: Given = field(default_factory=dict[int, Content])
    cond: Callable[[Layout], Any] | None = None
    combine: Callable[[Tensor], Tensor] | None = None
    layouts: Layouts = field(default_factory=Layouts)

    @cached_property
    def objectives(self) -> Sequence[Objective]:
        """The objective of each batch row."""
        return self.objective if isinstance(self.objective, Sequence) else [self.objective] * len(self.rngs)

    def __call__(self, schedule: Iterable[Step], state: DecodeState) -> Iterator[Emitted]:
        """Run a schedule. Yields (batch row, unit, code) as soon as a code exists."""
        for step in schedule:
            yield from self.step(step, state)

    def step(self, step: Step, state: DecodeState) -> list[Emitted]:
        """Run one Step, which is exactly one model call. Returns the codes that it finished."""
        clocks = [row.clock for row in state.rows]
        emitted: list[Emitted] = []
        layout = self.layouts(step, self.order, self.grids, clocks, state.held(), state.ring_relations)
        inputs = torch.stack([self._row_inputs(b, step, layout, state.rows[b], emitted) for b in range(len(clocks))])
        state.begin(layout, inputs)
        out = self.model(inputs, layout, None if self.cond is None else self.cond(layout), state)
        state.end(step)
        out = out if self.combine is None else self.combine(out)
        for b, row_state in enumerate(state.rows):
            self._take(b, step, layout, row_state, out[b], emitted)
            row_state.clock += step.advance
            self._forget(row_state)
        return emitted

    def _row_inputs(self, b: int, step: Step, layout: Layout, state: RowState, emitted: list[Emitted]) -> Tensor:
        """Raw slot inputs [S, I] of one batch row; zero in padded slots."""
        pieces: list[tuple[int, Tensor]] = []
        for row, (first, _) in zip(step.rows, layout.spans, strict=True):
            unit = state.clock + row.unit
            if self.order.exists(unit):
                pieces.append((first, self._unit_inputs(b, unit, row, state, emitted)))
        if not pieces:
            return torch.zeros(layout.num_slots, self.objectives[b].input_width)
        if sum(len(piece) for _, piece in pieces) == layout.num_slots:
            return torch.cat([piece for _, piece in pieces])
        full = pieces[0][1].new_zeros(layout.num_slots, pieces[0][1].shape[-1])
        for first, piece in pieces:
            full[first : first + len(piece)] = piece
        return full

    def _unit_inputs(self, b: int, unit: int, row: Row, state: RowState, emitted: list[Emitted]) -> Tensor:
        past, rng, objective = self._past(unit, state), self._rng(b, state), self.objectives[b]
        if row.step is None:
            if unit not in state.codes:
                if unit in state.committed:
                    raise ValueError(f"unit {unit} is committed again, but its code is gone: no later unit needs it")
                self._finished(b, unit, self._code(b, unit, past, state), state, emitted)
            return objective.memory(unit, state.codes[unit], past, rng)
        if unit not in state.x:
            state.x[unit] = objective.start(unit, past, rng)
        return objective.inputs(unit, state.x[unit], row.step)

    def _code(self, b: int, unit: int, past: Past, state: RowState) -> Tensor:
        """The code [n, C] of a unit that is committed without a last step: a given code, or a unit in flight finished
        as it is.
        """
        objective = self.objectives[b]
        if unit in state.x:
            return objective.finish(state.x.pop(unit))
        if unit in self.given:
            return self.given[unit](state)
        return objective.finish(objective.start(unit, past, self._rng(b, state)))

    def _rng(self, b: int, state: RowState) -> Rng:
        return replace(self.rngs[b], attempt=state.attempt) if state.attempt else self.rngs[b]

    def _past(self, unit: int, state: RowState) -> Past:
        needed = self.order.needed(unit)
        codes = {v: state.codes[v] for v in needed if v in state.codes}
        outs = {v: state.outs[v] for v in needed if v in state.outs} if state.outs else {}
        return Past(codes, outs, state.shown.get(unit))

    def _take(self, b: int, step: Step, layout: Layout, state: RowState, out: Tensor, emitted: list[Emitted]) -> None:
        objective, counts = self.objectives[b], layout.counts[b if len(layout.counts) > 1 else 0]
        last = max((i for _, i in objective.passes if i is not None), default=None)
        for row, (first, _), count in zip(step.rows, layout.spans, counts, strict=True):
            unit = state.clock + row.unit
            if not count:
                continue
            answer = out[first : first + count]
            if row.role == MEMORY:
                state.outs[unit] = answer
                state.committed.add(unit)
            if row.step is not None:
                state.x[unit] = objective.update(unit, state.x[unit], answer, row.step, self._rng(b, state))
                if row.step == last:
                    self._finished(b, unit, objective.finish(state.x.pop(unit)), state, emitted)

    @staticmethod
    def _finished(b: int, unit: int, code: Tensor, state: RowState, emitted: list[Emitted]) -> None:
        state.codes[unit] = code
        state.done.add(unit)
        emitted.append((b, unit, code))

    def _forget(self, state: RowState) -> None:
        """Drop codes and outputs that no later unit needs, neither as input nor for its commit. A pending code stays
        until it is committed.

        The last unit that needs a code is checked first, because it is usually the last one to be committed. A unit
        that was only shown is dropped when no unit that can be in flight, or waits for its commit, can still see it.
        """
        needers, reach = self.order.needers, self.order.reach
        for unit in [u for u in state.codes if u in state.committed and u in state.done]:
            if state.settled(reversed(needers(unit))):
                state.codes.pop(unit)
        for unit in list(state.outs):
            if all(v in state.done for v in reversed(needers(unit))):
                state.outs.pop(unit)
        if not self.order.endless:
            return
        for known in (state.codes, state.outs, state.shown):
            for unit in [u for u in known if u < state.clock - 2 * reach - 2]:
                known.pop(unit)
        for known in (state.committed, state.done):
            for unit in [u for u in known if u < state.clock - reach - 2]:
                known.discard(unit)


def decode(
    model: Model,
    order: Order,
    grids: Sequence[Grid],
    objective: Objective | Sequence[Objective],
    schedule: Iterable[Step],
    state: DecodeState,
    rngs: Sequence[Rng],
    given: Given | None = None,
    cond: Callable[[Layout], Any] | None = None,
    combine: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Emitted]:
    """Decode a schedule. Yields (batch row, unit, code [n, C]) as soon as a code exists."""
    return Decoder(model, order, grids, objective, rngs, {} if given is None else given, cond, combine)(schedule, state)
