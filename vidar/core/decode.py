"""The one loop that decodes every system. It calls the model; objectives never do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from vidar.core.grid import Grid
from vidar.core.layout import Layout, compile_layout, row_sizes
from vidar.core.order import Order
from vidar.core.step import Row, Step
from vidar.rng import Rng
from vidar.types import MEMORY, Model, Objective, Past, Slots

Emitted = tuple[int, int, Tensor]  # (batch row, unit, code [n, C])


@dataclass
class RowState:
    """The small parts of one batch row. Tensors in it are replaced, never changed in place.

    codes      finished codes somebody still needs; a code that is not in `committed` is pending
    outs       outputs of committing passes that a later `start` reads
    x          what is in flight
    committed  units whose keys have been written;  done: units whose code has existed
    extras     further trees of the row: tokenizer state, retrieval memory
    """

    clock: int = 0
    codes: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    outs: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    x: dict[int, Any] = field(default_factory=dict[int, Any])
    committed: set[int] = field(default_factory=set[int])
    done: set[int] = field(default_factory=set[int])
    extras: dict[str, Any] = field(default_factory=dict[str, Any])

    def copy(self) -> RowState:
        """A copy that shares tensors."""
        maps = dict(self.codes), dict(self.outs), dict(self.x)
        return RowState(self.clock, *maps, set(self.committed), set(self.done), dict(self.extras))


Content = Callable[[RowState], Tensor]  # the row -> the code of a given unit


class Given(Protocol):
    """By unit, the function that gives its code: a dictionary, or a formula for an endless stream."""

    def __contains__(self, unit: object, /) -> bool: ...

    def __getitem__(self, unit: int, /) -> Content: ...


class DecodeState(Protocol):
    """What decode asks of a State, beside what the model asks (`vidar.types.State`)."""

    rows: list[RowState]

    def held(self) -> Mapping[str, Slots] | None:
        """By relation, the slots its ring keeps now."""
        ...

    def begin(self, layout: Layout, inputs: Tensor) -> None:
        """Before the model call: where the MEMORY slots will go; saves what they overwrite while a mark is open."""
        ...

    def end(self, step: Step) -> None:
        """After the model call: the rings now hold the MEMORY slots; the step joins the trace."""
        ...


@dataclass(frozen=True)
class Decoder:
    """What stays the same from step to step.

    grids, rngs: one per batch row. given: unit -> function of the row's codes. cond: layout -> conditions of the model.
    combine: joins guidance branches (rows of the batch) after the model, [B, S, O] -> [B, S, O].
    """

    model: Model
    order: Order
    grids: Sequence[Grid]
    objective: Objective
    rngs: Sequence[Rng]
    given: Given = field(default_factory=dict[int, Content])
    cond: Callable[[Layout], Any] | None = None
    combine: Callable[[Tensor], Tensor] | None = None

    def __call__(self, schedule: Iterable[Step], state: DecodeState) -> Iterator[Emitted]:
        """Run a schedule; yields (batch row, unit, code) as soon as a code exists."""
        for step in schedule:
            yield from self.step(step, state)

    def step(self, step: Step, state: DecodeState) -> list[Emitted]:
        """Run one Step: exactly one model call."""
        clocks = [row.clock for row in state.rows]
        emitted: list[Emitted] = []
        slices = self._slices(step, clocks)
        inputs = torch.stack([self._row_inputs(b, slices, state.rows[b], emitted) for b in range(len(clocks))])
        layout = self._layout(step, clocks, state)
        state.begin(layout, inputs)
        out = self.model(inputs, layout, None if self.cond is None else self.cond(layout), state)
        state.end(step)
        out = out if self.combine is None else self.combine(out)
        for b, row_state in enumerate(state.rows):
            self._take(b, slices, row_state, out[b], emitted)
            row_state.clock += step.advance
            self._forget(row_state)
        return emitted

    def _layout(self, step: Step, clocks: Sequence[int], state: DecodeState) -> Layout:
        held = state.held()
        alike = len(set(clocks)) == 1 and all(grid is self.grids[0] for grid in self.grids)
        if alike and (held is None or all(_uniform(slots) for slots in held.values())):
            held = None if held is None else {name: _first(slots) for name, slots in held.items()}
            return compile_layout(step.rows, self.order, self.grids[:1], clocks[:1], held)
        return compile_layout(step.rows, self.order, self.grids, clocks, held)

    def _slices(self, step: Step, clocks: Sequence[int]) -> list[tuple[Row, slice]]:
        """Where each row of the Step lies among the slots."""
        sizes = row_sizes(step.rows, self.order, self.grids, clocks)
        ends = torch.tensor(sizes).cumsum(0).tolist()
        return [(row, slice(end - size, end)) for row, size, end in zip(step.rows, sizes, ends)]

    def _row_inputs(self, b: int, slices: list[tuple[Row, slice]], state: RowState, emitted: list[Emitted]) -> Tensor:
        """Raw slot inputs [S, I] of one batch row; zero for slots of nobody."""
        pieces: list[tuple[slice, Tensor]] = []
        for row, where in slices:
            unit = state.clock + row.unit
            if self.order.exists(unit):
                pieces.append((where, self._unit_inputs(b, unit, row, state, emitted)))
        total = slices[-1][1].stop
        if not pieces:
            return torch.zeros(total, self.objective.input_width)
        full = pieces[0][1].new_zeros(total, pieces[0][1].shape[-1])
        for where, piece in pieces:
            full[where.start : where.start + piece.shape[0]] = piece
        return full

    def _unit_inputs(self, b: int, unit: int, row: Row, state: RowState, emitted: list[Emitted]) -> Tensor:
        past, rng = self._past(unit, state), self.rngs[b]
        if row.step is None:
            if unit not in state.codes:
                if unit in self.given:
                    code = self.given[unit](state)
                else:
                    code = self.objective.finish(self.objective.start(unit, past, rng))
                self._finished(b, unit, code, state, emitted)
            return self.objective.memory(unit, state.codes[unit], past, rng)
        if unit not in state.x:
            state.x[unit] = self.objective.start(unit, past, rng)
        return self.objective.inputs(unit, state.x[unit], row.step)

    def _past(self, unit: int, state: RowState) -> Past:
        need = self.order.need
        return Past(
            {v: code for v, code in state.codes.items() if need(unit, v)},
            {v: out for v, out in state.outs.items() if need(unit, v)},
        )

    def _take(
        self, b: int, slices: list[tuple[Row, slice]], state: RowState, out: Tensor, emitted: list[Emitted]
    ) -> None:
        last = max((i for _, i in self.objective.passes if i is not None), default=None)
        for row, where in slices:
            unit = state.clock + row.unit
            if not self.order.exists(unit):
                continue
            size = self.grids[b].sites(unit).shape[0]
            answer = out[where.start : where.start + size]
            if row.role == MEMORY:
                state.outs[unit] = answer
                state.committed.add(unit)
            if row.step is not None:
                state.x[unit] = self.objective.update(unit, state.x[unit], answer, row.step, self.rngs[b])
                if row.step == last:
                    self._finished(b, unit, self.objective.finish(state.x.pop(unit)), state, emitted)

    @staticmethod
    def _finished(b: int, unit: int, code: Tensor, state: RowState, emitted: list[Emitted]) -> None:
        state.codes[unit] = code
        state.done.add(unit)
        emitted.append((b, unit, code))

    def _forget(self, state: RowState) -> None:
        """Drop codes and outs that no later unit needs, nor its commit; a pending code stays until it is committed."""
        for unit in [u for u in state.codes if u in state.committed]:
            if all(v in state.committed for v in self.order.needers(unit)):
                state.codes.pop(unit)
        for unit in list(state.outs):
            if all(v in state.done for v in self.order.needers(unit)):
                state.outs.pop(unit)
        if self.order.endless:
            horizon = state.clock - self.order.reach - 2
            state.committed = {u for u in state.committed if u >= horizon}
            state.done = {u for u in state.done if u >= horizon}


def _uniform(slots: Slots) -> bool:
    return bool((slots.cell == slots.cell[:1]).all()) and bool((slots.site == slots.site[:1]).all())


def _first(slots: Slots) -> Slots:
    return Slots(slots.site[:1], slots.cell[:1], slots.unit[:1], slots.role[:1], slots.coord[:1])


def decode(
    model: Model,
    order: Order,
    grids: Sequence[Grid],
    objective: Objective,
    schedule: Iterable[Step],
    state: DecodeState,
    rngs: Sequence[Rng],
    given: Given | None = None,
    cond: Callable[[Layout], Any] | None = None,
    combine: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Emitted]:
    """Decode a schedule: yields (batch row, unit, code [n, C]) as soon as a code exists."""
    return Decoder(model, order, grids, objective, rngs, {} if given is None else given, cond, combine)(schedule, state)
