"""The backbone: embedding, blocks, head. It satisfies `vidar.types.Model` and knows no paper, order or objective."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.config import Config
from vidar.core.layout import Layout
from vidar.core.placement import RingShape
from vidar.nn.asked import reading
from vidar.nn.attention import AttentionConfig, planned
from vidar.nn.auto import AutoAttentionConfig
from vidar.nn.block import MLP, Asked, Block, Call, ModulationConfig, OwnModulationConfig
from vidar.nn.embed import EmbedConfig, LevelConfig, LinearEmbedConfig
from vidar.nn.heads import HeadConfig, LinearHeadConfig
from vidar.nn.mixers import MixerConfig, SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig, Rope, RopeConfig, Tables
from vidar.types import PAD, Cond, State

EMPTY = Cond()


class BackboneConfig(Config):
    """A transformer over slots.

    width, depth         D and the number of blocks
    heads, head_width    K and E; K * E need not be D
    in_width, out_width  I and O; with `level`, the last of the I columns is the noise level of the slot's row
    step_size            the column before the level is the step size of the row, in [0, 1]
    mixers               the mixers of every block, in order; each names its relation
    memory_width         width of Cond.memory, for cross-attention
    gate_std             standard deviation of the modulation's weights; 0: every block starts as the identity
    modulation           one map per sublayer, or one map for all blocks
    """

    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_width: int = Field(ge=2)
    in_width: int = Field(ge=1)
    out_width: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    mixers: tuple[MixerConfig, ...] = (SelfAttentionConfig(),)
    rope: RopeConfig = AxialRopeConfig()
    level: LevelConfig | None = None
    step_size: LevelConfig | None = None
    embed: EmbedConfig = LinearEmbedConfig()
    head: HeadConfig = LinearHeadConfig()
    attention: AttentionConfig = AutoAttentionConfig()
    memory_width: int = Field(default=0, ge=0)
    gate_std: float = Field(default=0.0, ge=0)
    modulation: ModulationConfig = OwnModulationConfig()

    @model_validator(mode="after")
    def _check(self) -> BackboneConfig:
        if not self.mixers:
            raise ValueError("a backbone needs at least one mixer")
        self.rope.build(self.rope.axes, self.head_width)
        with torch.device("meta"):
            self.embed.build(self.columns, self.width)
        return self

    @property
    def columns(self) -> int:
        """Input columns of a slot, not counting those that belong to its row."""
        return self.in_width - (self.level is not None) - (self.step_size is not None)

    def build(self) -> Backbone:
        """A backbone with fresh weights (drawn by torch's default generator)."""
        return Backbone(self)


class Backbone(nn.Module):
    """`backbone(inputs [B, S, I], layout, cond, state) -> [B, S, O]`.

    It does not receive the role of a slot. A model that is trained with every unit once (SINGLE) sees MEMORY slots
    only, while in play the same unit is first a QUERY. A commit is recognisable by its level or by what the objective
    puts into the inputs.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = config.embed.build(config.columns, config.width)
        self.level = None if config.level is None else config.level.build(config.width)
        self.step_size = None if config.step_size is None else config.step_size.build(config.width)
        self.row = nn.Parameter(torch.zeros(config.width))  # the modulation rows start from this vector
        self.blocks = nn.ModuleList([self._block(number) for number in range(config.depth)])
        self.modulation = config.modulation.build(self.blocks, config.width, config.gate_std)
        self.head = config.head.build(config.width, config.out_width, config.gate_std)
        self._rope_key = f"rope {config.rope!r} {config.head_width}"
        self._ropes: dict[tuple[str, ...], Rope] = {}
        self._rings = self._ring_shapes()

    def _block(self, number: int) -> Block:
        c = self.config
        mixers: list[nn.Module] = []
        for place, mixer in enumerate(c.mixers):
            before = sum(other.cached == mixer.cached for other in c.mixers[:place])
            layer = number * sum(other.cached == mixer.cached for other in c.mixers) + before
            mixers.append(mixer.build(c.width, c.heads, c.head_width, c.memory_width, c.gate_std, layer))
        return Block(mixers, MLP(c.width, c.mlp_ratio, c.gate_std))

    def ring_shapes(self) -> dict[str, RingShape]:
        """By relation, the ring that a state has to keep."""
        return self._rings

    def _ring_shapes(self) -> dict[str, RingShape]:
        c = self.config
        names = [mixer.cached for mixer in c.mixers if mixer.cached is not None]
        return {name: RingShape(names.count(name) * c.depth, c.heads, c.head_width) for name in dict.fromkeys(names)}

    def forward(self, inputs: Tensor, layout: Layout, cond: Cond | None = None, state: State | None = None) -> Tensor:
        """See `vidar.types.Model`. Padding slots may contain anything."""
        cond, inputs = EMPTY if cond is None else cond, self.mask_padding(inputs, layout)
        part = reading(layout) if state is None and self.blocks else None
        if part is None:
            return self.run(inputs, cond, self._call(inputs, layout, cond, state))
        inputs, cond = part.enter(inputs, cond)
        asked = Asked(part.asked.rows, part.asked.slots, self._call(inputs, part.asked.layout, cond, None))
        return part.leave(self.run(inputs, cond, self._call(inputs, part.read.layout, cond, None), asked))

    def run(self, inputs: Tensor, cond: Cond, call: Call, asked: Asked | None = None) -> Tensor:
        """`forward` after all decisions that depend on the layout: a function of tensors, with padding zeroed.

        asked: the slots to compute, if not all.
        """
        x, rows = self._enter(inputs, cond, call)
        mapped, whole = self.modulation(rows), len(self.blocks) - (asked is not None)
        for block in self.blocks[:whole]:
            x = block(x, mapped, call)
        if asked is None:
            return self.head(x, rows, call.row)
        last = cast(Block, self.blocks[-1])
        x = last.answer(x, mapped, call, asked)
        return self.head(x, asked.of_rows(rows), asked.call.row)

    def features(self, inputs: Tensor, layout: Layout, cond: Cond | None, blocks: Collection[int]) -> list[Tensor]:
        """The outputs of these blocks, counted from 0, in their order: [B, S, D] each. Later blocks are not run."""
        cond = EMPTY if cond is None else cond
        call = self._call(inputs, layout, cond, None)
        x, rows = self._enter(self.mask_padding(inputs, layout), cond, call)
        mapped, found = self.modulation(rows), list[Tensor]()
        for number in range(max(blocks) + 1):
            x = self.blocks[number](x, mapped, call)
            if number in blocks:
                found.append(x.flatten(1, 2))
        return found

    def mask_padding(self, inputs: Tensor, layout: Layout) -> Tensor:
        """Set padding slots to zero, because even a NaN there must not reach a sum."""
        if "any padding" not in layout.fixed:
            layout.fixed["any padding"] = bool((layout.slots.cell == PAD).any())
        if not layout.fixed["any padding"]:
            return inputs
        padding = _memo(layout, "padding", inputs.device, lambda: layout.slots.cell == PAD)
        return inputs.masked_fill(padding[..., None], 0.0)

    def _enter(self, inputs: Tensor, cond: Cond, call: Call) -> tuple[Tensor, Tensor]:
        """The slots [B, G, n, D] and the modulation rows [B or 1, M, D]."""
        rows = self.row.expand(1, call.start.shape[0], -1)
        for column in (self.level, self.step_size):
            if column is not None:
                rows = rows + column(inputs[:, call.start, -1])
                inputs = inputs[..., :-1]
        if cond.modulation is not None:
            rows = rows + cond.modulation.to(rows.dtype)
        x = self.embed(inputs, rows, call.row)
        if cond.add is not None:
            x = x + cond.add.to(x.dtype)
        return x.unflatten(1, (-1, call.length or 1)), rows

    def _call(self, inputs: Tensor, layout: Layout, cond: Cond, state: State | None) -> Call:
        """Everything that the blocks need to know about the layout, looked up once."""
        device, grad = inputs.device, torch.is_grad_enabled()
        start = _memo(layout, "row_start", device, lambda: layout.row_start)
        row = None if layout.row_length else _memo(layout, "row", device, lambda: layout.row)
        attention = {name: planned(self.config.attention, layout.views[name], device, grad) for name in self._rings}
        weight = self.row
        memory = None if cond.memory is None else cond.memory.to(weight.dtype)
        tables = self.tables(layout, device)
        return Call(start, layout.row_length, row, tables, attention, state, memory, cond.memory_mask)

    def tables(self, layout: Layout, device: torch.device) -> Tables | None:
        """Rotary tables of the slots of a layout, [B or 1, S, E] each; in float32 or wider."""
        dtype = torch.promote_types(self.row.dtype, torch.float32)
        key = f"{self._rope_key} {device} {dtype}"
        memo, coord, number = layout.block or (layout.memo, layout.slots.coord, None)
        if key not in memo:
            with torch.inference_mode(False):
                made = self._rope(layout.axes)(coord, dtype)
                memo[key] = None if made is None else (made[0].to(device), made[1].to(device))
        made = memo[key]
        return made if made is None or number is None else (made[0][number], made[1][number])

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copies, without the rotary functions, which cannot be pickled and are built when needed."""
        return {**self.__dict__, "_ropes": {}}

    def _rope(self, axes: tuple[str, ...]) -> Rope:
        if axes not in self._ropes:
            self._ropes[axes] = self.config.rope.build(axes, self.config.head_width)
        return self._ropes[axes]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the embedding, the head, and the parts of every block around attention, in place."""
        for part in (self.embed, *self.blocks, self.head):
            part.compile(*args, **kwargs)


def _memo(layout: Layout, name: str, device: torch.device, make: Any) -> Tensor:
    """A tensor of the layout and its shifted copies, on a device; a copy even on the CPU, safe for autograd."""
    key = f"{name} {device}"
    if key not in layout.fixed:
        with torch.inference_mode(False):
            layout.fixed[key] = make().to(device, copy=True)
    return layout.fixed[key]
