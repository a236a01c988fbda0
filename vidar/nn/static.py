"""A backbone in play as one compiled function, which is possible because every call of a frame has the same shapes.

Whatever depends on the layout and changes with the clock (rotary tables, masks) is passed as tensors, and so are the
rings. Fresh keys and values are returned and written where the state wants them. Without compilation a small world
spends half of a frame between its operations (`scripts/bench_compiled.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from vidar.core.layout import Layout, View
from vidar.core.relation import Relation
from vidar.nn.attention import Attention, Dense, Masked
from vidar.nn.backbone import EMPTY, Backbone
from vidar.nn.block import Call
from vidar.nn.case import Case
from vidar.nn.rope import Tables
from vidar.types import Cond, State, UsageError

Pair = tuple[Tensor, Tensor]
Layers = dict[str, list[Pair]]
Carried = dict[str, Tensor]  # by "name layer", because a trace accepts strings only
Build = Callable[[nn.Module, tuple[Any, ...]], Callable[..., Any]]  # (module, example arguments) -> what runs it


class Tape:
    """The State that a trace sees. held: keys, values [B, R, K, E] by relation and layer; fresh: what was written.

    carries: states of mixers with a state of fixed size, by name and layer, replaced by their new states.
    """

    def __init__(self, held: Layers, carries: Carried) -> None:
        self.held, self.carries = held, dict(carries)
        self.fresh: Layers = {}

    def read(self, relation: str, layer: int) -> Pair | None:
        """See `vidar.types.State`."""
        return self.held[relation][layer] if relation in self.held else None

    def write(self, relation: str, layer: int, k: Tensor, v: Tensor) -> None:
        """See `vidar.types.State`; layers come in order."""
        self.fresh.setdefault(relation, []).append((k, v))

    def carry(self, name: str, layer: int) -> Tensor | None:
        """See `vidar.types.State`."""
        return self.carries.get(f"{name} {layer}")

    def carried(self) -> dict[tuple[str, int], Tensor]:
        """See `vidar.types.State`."""
        return {
            (name, int(layer)): value for key, value in self.carries.items() for name, _, layer in [key.rpartition(" ")]
        }

    def put(self, name: str, layer: int, value: Tensor) -> None:
        """See `vidar.types.State`."""
        self.carries[f"{name} {layer}"] = value


class Function(nn.Module):
    """`Backbone.run` for one static shape as a function of tensors. start, row, length: see `Call`.

    kernels: the function that computes the attention of each relation under its mask.
    """

    def __init__(
        self, backbone: Backbone, start: Tensor, row: Tensor | None, length: int | None, kernels: dict[str, Dense]
    ) -> None:
        super().__init__()
        self.backbone, self.length, self.kernels = backbone, length, kernels
        self.start: Tensor
        self.row: Tensor | None
        self.register_buffer("start", start)
        self.register_buffer("row", row)

    def forward(
        self,
        inputs: Tensor,
        cond: dict[str, Tensor],
        tables: Tables | None,
        masks: dict[str, Pair],
        held: Layers,
        carries: Carried,
    ) -> tuple[Tensor, Layers, Carried]:
        """inputs [B, S, I]; cond: the existing ports by name; masks: open and blind (`Masked`) by relation.

        Returns [B, S, O], the fresh keys and values [B, S, K, E] of each relation by layer, and the new carries.
        """
        tape = Tape(held, carries)
        attention = {name: _masked(*pair, self.kernels[name]) for name, pair in masks.items()}
        memory = cond.get("memory"), cond.get("memory_mask")
        call = Call(self.start, self.length, self.row, tables, attention, tape, *memory)
        return self.backbone.run(inputs, Cond(**cond), call), tape.fresh, tape.carries

    def extra_repr(self) -> str:
        """The forms of attention, which are part of the identity of a compiled function."""
        return ", ".join(f"{name}: {kernel.__name__}" for name, kernel in self.kernels.items())


class StaticBackbone:
    """`backbone(inputs, layout, cond, state)` by functions that `build` compiles, one per shape.

    Raises UsageError for a relation with folds, whose attention does not depend on a mask alone.
    """

    def __init__(self, backbone: Backbone, build: Build) -> None:
        self.backbone, self.build = backbone, build
        self.functions: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, inputs: Tensor, layout: Layout, cond: Cond | None, state: State) -> Tensor:
        """See `vidar.types.Model`."""
        inputs, cond = self.backbone.mask_padding(inputs, layout), EMPTY if cond is None else cond
        tables = self.backbone.tables(layout, inputs.device)
        shapes, batch = self.backbone.ring_shapes(), len(inputs)
        args = (
            inputs,
            {name: part for name, part in vars(cond).items() if part is not None},
            None if tables is None else tuple(_rows(part, batch) for part in tables),
            {name: _mask(layout.views[name], batch, inputs.device) for name in shapes},
            {name: held for name, shape in shapes.items() if (held := _held(state, name, shape.layers))},
            {f"{name} {layer}": value for (name, layer), value in state.carried().items()},
        )
        out, fresh, carries = self._function(layout, args)(*args)
        for name, layers in fresh.items():
            for layer, (k, v) in enumerate(layers):
                state.write(name, layer, k, v)
        for key, value in carries.items():
            name, _, layer = key.rpartition(" ")
            state.put(name, int(layer), value)
        return out

    def _function(self, layout: Layout, args: tuple[Any, ...]) -> Callable[..., Any]:
        """The function, found once per layout (and its shifted copies) and per shapes that it does not determine."""
        key = "function", self, args[0].shape, *((name, part.shape) for name, part in args[1].items()), *args[5]
        if key not in layout.fixed:
            layout.fixed[key] = self._built(layout, args)
        return layout.fixed[key]

    def _built(self, layout: Layout, args: tuple[Any, ...]) -> Callable[..., Any]:
        shapes = tuple(tuple(x.shape) for x in pytree.tree_leaves(args) if x is not None)
        key = (shapes, tuple(layout.row_start.tolist()))
        if key not in self.functions:
            with torch.inference_mode(False), torch.no_grad():
                row = None if layout.row_length else layout.row.clone()
                module = Function(
                    self.backbone, layout.row_start.clone(), row, layout.row_length, self._kernels(args[3])
                )
                example = pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, args)
                self.functions[key] = self.build(module.eval(), example)
        return self.functions[key]

    def _kernels(self, masks: dict[str, Pair]) -> dict[str, Dense]:
        """The function that computes each relation's attention, as chosen by the backbone's config for these sizes."""
        weight, kernels = self.backbone.row, dict[str, Dense]()
        for name, shape in self.backbone.ring_shapes().items():
            batch, _, slots, keys = masks[name][0].shape
            sizes = batch, shape.heads, slots, keys, shape.width
            case = Case(weight.device.type, weight.dtype, *sizes, masked=True, ring=True)
            kernels[name] = self.backbone.config.attention.dense(case)
        return kernels


def _held(state: State, relation: str, layers: int) -> list[Pair]:
    """What a relation keeps, by layer; empty if it keeps nothing."""
    return [pair for layer in range(layers) if (pair := state.read(relation, layer)) is not None]


def _masked(allowed: Tensor, blind: Tensor, kernel: Dense) -> Attention:
    """Attention with the mask as an argument; see `Masked`."""
    return Masked(allowed, blind).attention(kernel)


def _mask(view: View, batch: int, device: torch.device) -> Pair:
    """open bool [B, 1, S, T] and blind bool [B, S, 1, 1], even if nothing is hidden; computed once per view."""
    key = f"static {batch} {device}"
    if key not in view.memo:
        with torch.inference_mode(False):
            view.memo[key] = _made(view, batch, device)
    return view.memo[key]


def check_static(relations: Iterable[Relation]) -> None:
    """Raises UsageError if one of these relations cannot be a function of static shapes."""
    for relation in relations:
        if relation.fold:
            raise UsageError(
                f"relation {relation!r} has folds; a world with such a relation cannot be compiled for play"
            )


def _made(view: View, batch: int, device: torch.device) -> Pair:
    check_static([view.relation])
    found, slots, keys = Masked.of(view, device), view.q.cell.shape[1], view.k.cell.shape[1]
    allowed = torch.ones(1, 1, slots, keys, dtype=torch.bool, device=device) if found.open is None else found.open
    blind = torch.zeros(1, slots, 1, 1, dtype=torch.bool, device=device) if found.blind is None else found.blind
    return _rows(allowed, batch), _rows(blind, batch)


def _rows(x: Tensor, batch: int) -> Tensor:
    """[1 or B, ..] -> [B, ..], contiguous."""
    return x.expand(batch, *x.shape[1:]).contiguous()
