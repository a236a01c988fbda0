"""Models and objectives for what the core can do beside decoding a fixed schedule."""

import torch
from toys import ToyModel, sample

from vidar.core.placement import FreePlacement, RingShape
from vidar.types import MEMORY, PAD, QUERY


class RecurrentModel(ToyModel):
    """Beside attention every layer has a decaying sum of what was committed, carried from call to call.

    A slot in flight reads it as the units before its own left it; a committed one with itself in it.
    """

    def attend(self, qkv, view, state, name, layer):
        held = None if state is None else state.carry(name, layer)
        value, slots = qkv[..., -self.width :], view.q
        batch = len(value)
        kept = [torch.zeros(self.width, dtype=value.dtype) if held is None else held[b] for b in range(batch)]
        read = [[None] * value.shape[1] for _ in range(batch)]
        for b in range(batch):
            row = b if len(slots.cell) > 1 else 0
            cell, role, unit = slots.cell[row].tolist(), slots.role[row].tolist(), slots.unit[row].tolist()
            memory = [s for s, (c, r) in enumerate(zip(cell, role)) if r == MEMORY and c != PAD]
            sums = {None: kept[b]}
            for before, s in zip([None, *memory], memory):
                sums[s] = 0.8 * sums[before] + value[b, s]
            for s in range(value.shape[1]):
                earlier = [m for m in memory if (m <= s if s in memory else unit[m] < unit[s])]
                read[b][s] = sums[earlier[-1] if earlier else None]
            kept[b] = sums[memory[-1] if memory else None]
        if state is not None:
            state.put(name, layer, torch.stack(kept))
        return super().attend(qkv, view, state, name, layer) + torch.stack([torch.stack(r) for r in read])


class HeadwiseModel(ToyModel):
    """Every head of every layer keeps a ring of its own, of `size` places, and forgets what it is told to."""

    def __init__(self, in_width, out_width, size, layers=2):
        super().__init__(in_width, out_width, ["main"], 3, layers=layers, roles=False)
        self.size = size

    @staticmethod
    def ring(layer, head):
        return f"main, layer {layer}, head {head}"

    def ring_shapes(self):
        shape = RingShape(1, 1, self.width // self.heads, "main", FreePlacement(self.size))
        return {self.ring(layer, head): shape for layer in range(self.layers) for head in range(self.heads)}

    def forward(self, inputs, layout, cond=None, state=None):
        self.layout = layout
        return super().forward(inputs, layout, cond, state)

    def attend(self, qkv, view, state, name, layer):
        parts = qkv.unflatten(-1, (3, self.heads, -1))
        heads = []
        for head in range(self.heads):
            ring = self.ring(layer, head)
            heads.append(self.one_head(parts[..., head, :], self.layout.view(ring, name), state, ring))
        return torch.cat(heads, -1)

    def one_head(self, qkv, view, state, ring):
        q, k, v = (part[:, :, None] for part in qkv.unbind(2))
        held = None if state is None else state.read(ring, 0)
        keys, values = (k, v) if held is None else (torch.cat([held[0], k], 1), torch.cat([held[1], v], 1))
        score = torch.einsum("bske,btke->bkst", q, keys) / q.shape[-1] ** 0.5
        weight = torch.nan_to_num(score.masked_fill(~view.dense[:, None], float("-inf")).softmax(-1), nan=0.0)
        if state is not None:
            state.write(ring, 0, k, v)
        return torch.einsum("bkst,btke->bske", weight, values).flatten(2)


class DrawnFromOutput:
    """Commit only: token u is drawn from the output of token u - 1; the first one from nothing."""

    passes = ((MEMORY, None),)

    def __init__(self, book):
        self.book, self.input_width = book, book.shape[1]

    def start(self, unit, past, rng):
        logits = past.outs[unit - 1][0] if unit else self.book.new_zeros(len(self.book))
        return sample(logits, unit, rng)[None]

    def finish(self, x):
        return x

    def memory(self, unit, code, past, rng):
        return self.book[code]


class Masked:
    """A token in flight is a mask; the most likely label of its newest answer is what it is filled with.

    A unit stays in flight until it is committed: as many refinements as that takes.
    """

    passes = ((QUERY, 0), (QUERY, 1), (MEMORY, None))

    def __init__(self, book):
        self.book, self.input_width = book, book.shape[1]

    def start(self, unit, past, rng):
        return torch.zeros(1, len(self.book), dtype=self.book.dtype)

    def inputs(self, unit, x, step):
        return self.book.mean(0, keepdim=True)

    def update(self, unit, x, out, step, rng):
        return out + rng.gumbel("token", unit, 0, out.shape)

    def finish(self, x):
        return x.argmax(-1)

    def memory(self, unit, code, past, rng):
        return self.book[code]
