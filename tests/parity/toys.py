"""A small transformer, the oracle state, and small objectives over a fixed random codebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vidar.core.layout import Layout, assemble, join
from vidar.core.placement import RingShape
from vidar.core.state import RowState
from vidar.types import MEMORY, PAD, QUERY, Loss, Slots, Target


class ToyModel(nn.Module):
    """Three layers in float64; each layer mixes over every relation in turn, with a dense mask and plain softmax."""

    def __init__(self, in_width, out_width, relations, axes, layers=3, width=24, heads=2, seed=0, roles=True):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weight(*shape):
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5)

        self.relations, self.heads, self.width = list(relations), heads, width
        self.embed, self.head = weight(in_width, width), weight(width, out_width)
        self.frequency = nn.Parameter(torch.randn(axes, width, generator=generator, dtype=torch.float64) * 0.4)
        self.role = weight(2, width) if roles else None
        self.qkv = nn.ParameterList([weight(width, 3 * width) for _ in range(layers * len(self.relations))])
        self.mix = nn.ParameterList([weight(width, width) for _ in range(layers * len(self.relations))])
        self.mlp = nn.ParameterList([weight(width, width) for _ in range(layers)])
        self.layers = layers

    def ring_shapes(self):
        return {name: RingShape(self.layers, self.heads, self.width // self.heads) for name in self.relations}

    def forward(self, inputs, layout, cond=None, state=None):
        x = inputs.to(torch.float64) @ self.embed + torch.sin(layout.slots.coord @ self.frequency)
        if self.role is not None:
            x = x + self.role[layout.slots.role]
        if cond is not None:
            x = x + cond[:, layout.row]
        for layer in range(self.layers):
            for r, name in enumerate(self.relations):
                n = layer * len(self.relations) + r
                x = x + self.attend(torch.tanh(x) @ self.qkv[n], layout.views[name], state, name, layer) @ self.mix[n]
            x = x + torch.tanh(x @ self.mlp[layer])
        return x @ self.head

    def attend(self, qkv, view, state, name, layer):
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        ring = None if state is None else state.read(name, layer)
        keys, values = (k, v) if ring is None else (torch.cat([ring[0], k], 1), torch.cat([ring[1], v], 1))
        mask = view.dense[:, None]
        score = torch.einsum("bske,btke->bkst", q, keys) / q.shape[-1] ** 0.5
        weight = torch.nan_to_num(score.masked_fill(~mask, float("-inf")).softmax(-1), nan=0.0)
        out = torch.einsum("bkst,btke->bske", weight, values).flatten(2)
        if state is not None:
            state.write(name, layer, k, v)
        return out


@dataclass
class Hidden:
    """Committed slots of a batch row that nobody reads from some call on; of one view, or of all."""

    call: int
    row: int
    slots: Tensor
    view: str | None = None


@dataclass
class OracleState:
    """Keeps slot inputs, never keys: every call recomputes all committed rows beside its own."""

    rows: list[RowState]
    inputs: Tensor | None = None
    slots: Slots | None = None
    steps: Tensor | None = None
    born: Tensor | None = None  # call in which a committed slot was written
    seen: Tensor | None = None  # bool [B, N, C]: cells that a committed slot might read by its Step's `keep`
    hidden: list[Hidden] = field(default_factory=list)
    calls: int = 0
    trace: list[Any] = field(default_factory=list)
    _new: Any = None

    def give(self, unit, codes):
        for row, code in zip(self.rows, codes):
            row.codes[unit] = code
            row.done.add(unit)

    ring_relations = {}  # every ring is named as its relation

    def held(self):
        return None

    def begin(self, layout, inputs):
        batch = len(self.rows)
        slots = expand(layout.slots, batch)
        kept = ((slots.role == MEMORY) & (slots.cell != PAD)).any(0)
        again = pick(slots, kept)
        for b in range(batch if self.slots is not None else 0):  # a site that is committed again
            self._hide(b, torch.isin(self.slots.site[b], again.site[b][again.cell[b] != PAD]))
        self._new = (inputs[:, kept], again, layout.row_step[layout.row][kept], allowed(layout, batch)[:, kept])

    def end(self, step):
        inputs, slots, steps, seen = self._new
        born = torch.full((inputs.shape[1],), self.calls)
        if self.slots is None:
            self.inputs, self.slots, self.steps, self.born, self.seen = inputs, slots, steps, born, seen
        elif inputs.shape[1]:
            self.inputs = torch.cat([self.inputs.to(inputs), inputs], 1)
            self.slots = join(self.slots, slots)
            self.steps = torch.cat([self.steps, steps])
            self.born = torch.cat([self.born, born])
            self.seen = torch.cat([cells_of(self.seen, seen), cells_of(seen, self.seen)], 1)
        self.calls += 1
        self.trace.append(step)

    def evict(self, ring, row, sites):
        self._hide(row, torch.isin(self.slots.site[row], sites), ring)

    def discard(self, row, units):
        gone = tuple(units)
        self.rows[row].discard(gone)
        if self.slots is not None:
            self._hide(row, torch.isin(self.slots.unit[row], torch.tensor(gone, dtype=torch.long)))

    def advance(self, row, count):
        self.rows[row].clock += count

    def attempt(self, row, number):
        self.rows[row].attempt = number

    def _hide(self, row, slots, view=None):
        if bool(slots.any()):
            self.hidden.append(Hidden(self.calls, row, slots, view))


def allowed(layout, batch):
    """bool [B, S, C]: cells that the slots of a call may read by its `keep`; C is 1 where there is none."""
    keep = next(iter(layout.views.values())).keep
    if keep is None:
        return torch.ones(batch, layout.num_slots, 1, dtype=torch.bool)
    slots, rows = expand(layout.slots, batch), torch.arange(batch)[:, None]
    return keep.expand(batch, -1, -1, -1)[rows, slots.role, slots.cell.clamp(min=0)]


def cells_of(seen, other):
    """As many cells as the other has."""
    return seen if seen.shape[2] >= other.shape[2] else seen.expand(-1, -1, other.shape[2])


def expand(slots, batch):
    return Slots(
        *(
            getattr(slots, n).expand(batch, *getattr(slots, n).shape[1:])
            for n in ("site", "cell", "unit", "role", "coord")
        )
    )


def pick(slots, kept):
    return Slots(*(getattr(slots, n)[:, kept] for n in ("site", "cell", "unit", "role", "coord")))


@dataclass
class OracleModel:
    """Runs a model on committed inputs ++ the call's inputs in one stateless forward."""

    model: Any
    order: Any
    cond: Any = None

    def ring_shapes(self):
        return self.model.ring_shapes()

    def __call__(self, inputs, layout, cond, state):
        batch, size = inputs.shape[:2]
        fresh, steps = expand(layout.slots, batch), layout.row_step[layout.row]
        now, seen = torch.full((size,), state.calls), allowed(layout, batch)
        if state.slots is None:
            slots, all_inputs, born = fresh, inputs, now
        else:
            slots = join(state.slots, fresh)
            all_inputs = torch.cat([state.inputs.to(inputs), inputs], 1)
            steps, born = torch.cat([state.steps, steps]), torch.cat([state.born, now])
            seen = torch.cat([cells_of(state.seen, seen), cells_of(seen, state.seen)], 1)
        rings = {name: shape.relation for name, shape in self.model.ring_shapes().items() if shape.relation}
        number = torch.arange(slots.site.shape[1])
        whole = assemble(slots, number, steps, self.order, layout.axes, rings=rings)
        open_ = (
            seen.gather(2, slots.cell.clamp(min=0)[:, None].expand(-1, slots.site.shape[1], -1))
            if (seen.shape[2] > 1)
            else torch.ones(1, dtype=torch.bool)
        )
        # a committed slot is recomputed with what had been committed when it was, itself included
        for name, view in whole.views.items():
            mask = view.dense.expand(batch, -1, -1) & (born[None, None, :] <= born[None, :, None]) & open_
            for one in state.hidden:
                if one.view in (None, name):
                    gone = torch.zeros_like(born, dtype=torch.bool)
                    gone[: len(one.slots)] = one.slots
                    mask[one.row] &= ~(gone[None, :] & (born >= one.call)[:, None])
            view.__dict__["dense"] = mask
            view.__dict__.pop("mask", None)
            view.__dict__.pop("blind", None)
        out = self.model(all_inputs, whole, None if self.cond is None else self.cond(whole), None)
        return out[:, -size:]


@dataclass
class Recorder:
    """Remembers layout, inputs and output of every model call."""

    model: Any
    calls: list[tuple[Layout, Tensor, Tensor]] = field(default_factory=list)

    def ring_shapes(self):
        return self.model.ring_shapes()

    def __call__(self, inputs, layout, cond=None, state=None):
        out = self.model(inputs, layout, cond, state)
        self.calls.append((layout, inputs.clone(), out.detach().clone()))
        return out


def codebook(size=7, width=5, seed=3):
    return torch.randn(size, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(logits, unit, rng):
    """Gumbel-max: long [n]."""
    return (logits + rng.gumbel("token", unit, 0, logits.shape)).argmax(-1)


class NextToken:
    """Predict and commit: the slot of token u holds token u - 1; the pass that predicts is the commit."""

    passes = ((MEMORY, 0),)

    def __init__(self, book):
        self.book, self.input_width = book, book.shape[1]

    def start(self, unit, past, rng):
        return self.book.new_zeros(1, self.input_width) if unit == 0 else self.book[past.codes[unit - 1]]

    def inputs(self, unit, x, step):
        return x

    def update(self, unit, x, out, step, rng):
        return sample(out, unit, rng)

    def finish(self, x):
        return x

    def memory(self, unit, code, past, rng):
        return self.start(unit, past, rng)

    def prepare(self, codes, layout, rngs):
        """codes: long [B, N]."""
        shifted = torch.cat([self.book.new_zeros(codes.shape[0], 1, self.input_width), self.book[codes[:, :-1]]], 1)
        sites = layout.slots.site[0]
        return shifted[:, sites], Target(codes[:, sites], torch.ones(codes.shape)), None

    def loss(self, out, target):
        return Loss(nn.functional.cross_entropy(out.flatten(0, 1), target.value.flatten()))


class NextRing:
    """Commit only: the tokens of a ring are drawn from the outputs of the ring before (NAR)."""

    passes = ((MEMORY, None),)

    def __init__(self, book, grid, lag=1):
        self.book, self.grid, self.input_width, self.lag = book, grid, book.shape[1], lag

    def start(self, unit, past, rng):
        count = self.grid.sites(unit).shape[0]
        if unit == 0:
            return sample(self.book.new_zeros(count, self.book.shape[0]), unit, rng)
        before = past.outs[unit - self.lag]
        place = torch.arange(count, dtype=torch.float64)[:, None]
        logits = before.mean(0) + torch.sin(place * before.amax(0))
        return sample(logits, unit, rng)

    def inputs(self, unit, x, step):
        raise AssertionError("a commit-only objective has no refinement inputs")

    update = inputs

    def finish(self, x):
        return x

    def memory(self, unit, code, past, rng):
        return self.book[code]


class NextScale:
    """Residual pyramid over the codebook: scale k is drawn given the resampled sum of the coarser ones.

    frames: None for clips of (t, h, w) scales, else VideoAR: sizes (h, w) and a memory unit behind each pyramid.
    """

    passes = ((MEMORY, 0),)

    def __init__(self, book, sizes, memory_unit=False):
        self.book, self.sizes, self.memory_unit = book, sizes, memory_unit
        self.input_width, self.period = book.shape[1], len(sizes) + int(memory_unit)

    def accumulate(self, codes, base, count):
        """Sum of the first `count` scales of the pyramid from unit `base` on, at the finest size [1, C, t, h, w]."""
        total = self.book.new_zeros(1, self.input_width, *self.sizes[-1])
        for k in range(count):
            part = self.book[codes[base + k]].T.reshape(1, -1, *self.sizes[k])
            total = total + nn.functional.interpolate(part, size=self.sizes[-1], mode="trilinear")
        return total

    def resampled(self, codes, unit):
        base, k = unit // self.period * self.period, unit % self.period
        total = self.accumulate(codes, base, k)
        size = self.sizes[min(k, len(self.sizes) - 1)]
        return nn.functional.adaptive_avg_pool3d(total, size)[0].flatten(1).T

    def content(self, unit):
        """The function that gives a memory unit: its frame's full content [n, C]."""
        return lambda row: self.resampled(row.codes, unit)

    def start(self, unit, past, rng):
        return self.resampled(past.codes, unit)

    def inputs(self, unit, x, step):
        return x

    def update(self, unit, x, out, step, rng):
        return sample(out, unit, rng)

    def finish(self, x):
        return x

    def memory(self, unit, code, past, rng):
        if self.memory_unit and unit % self.period == self.period - 1:
            return code
        return self.start(unit, past, rng)

    def prepare(self, codes, layout, rngs):
        """codes: one dict unit -> labels per batch row. Inputs of all rows at once, built without the decode loop."""
        seen, labels, weight = [], [], []
        units = layout.row_unit[0].tolist()
        for row in codes:
            parts = [self.resampled(row, u) for u in units]
            sizes = [len(part) for part in parts]
            seen.append(torch.cat(parts))
            labels.append(torch.cat([row.get(u, torch.zeros(n, dtype=torch.long)) for u, n in zip(units, sizes)]))
            weight.append(torch.cat([torch.full((n,), float(u in row)) for u, n in zip(units, sizes)]))
        return torch.stack(seen), Target(torch.stack(labels), torch.stack(weight)), None


__all__ = [
    "MEMORY",
    "QUERY",
    "NextRing",
    "NextScale",
    "NextToken",
    "OracleModel",
    "OracleState",
    "Recorder",
    "ToyModel",
    "codebook",
]
