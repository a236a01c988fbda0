"""Self-attention over one relation: to the fresh slots and to what its ring keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidar.nn.asked import taken
from vidar.nn.block import Asked, Call, Modulation
from vidar.nn.embed import linear
from vidar.nn.mixers.config import MixerConfig
from vidar.nn.norm import RMSNorm, modulate
from vidar.nn.rope import Tables, rotate


class SelfAttentionConfig(MixerConfig):
    """The relation says which slots read which; the mixer only names it."""

    relation: str = "main"

    @property
    def cached(self) -> str:
        """See `MixerConfig`."""
        return self.relation

    def build(
        self, width: int, heads: int, head_width: int, memory_width: int, gate_std: float, layer: int
    ) -> SelfAttention:
        """layer: index among the mixers of the backbone that use the same relation."""
        return SelfAttention(self.relation, width, heads, head_width, gate_std, layer)


class SelfAttention(nn.Module):
    """x + gate * attention(modulate(x)), with QK-norm per head; keys are rotated before they are stored."""

    def __init__(self, relation: str, width: int, heads: int, head_width: int, gate_std: float, layer: int) -> None:
        super().__init__()
        self.relation, self.layer = relation, layer
        self.enter = QKVProjection(width, heads, head_width, gate_std)
        self.leave = OutputProjection(width, heads * head_width)

    def forward(self, x: Tensor, rows: Tensor, call: Call) -> Tensor:
        """[B, G, n, D] -> [B, G, n, D]; attends to ring ++ fresh first and writes afterwards."""
        q, k, v, gate = self.enter(x, rows, call.row, call.tables)
        held = None if call.state is None else call.state.read(self.relation, self.layer)
        keys, values = k, v
        if held is not None:
            keys = torch.cat([held[0].to(k.dtype), k], dim=1)
            values = torch.cat([held[1].to(v.dtype), v], dim=1)
        mixed = call.attention[self.relation](q, keys, values)  # [B, S, K, E]
        if call.state is not None:
            call.state.write(self.relation, self.layer, k, v)
        return self.leave(x, mixed, gate)

    def answer(self, x: Tensor, rows: Tensor, call: Call, asked: Asked) -> Tensor:
        """See `vidar.nn.block.Answers`: keys and values of all slots, and nothing else for slots without a loss."""
        q, k, v, gate = self.enter(x, rows, call.row, call.tables)
        mixed = asked.call.attention[self.relation](taken(q, asked.slots), k, v)  # [B, S', K, E]
        return self.leave(asked.of_slots(x), mixed, asked.of_slots(gate))

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the parts before and after attention."""
        self.enter.compile(*args, **kwargs)
        self.leave.compile(*args, **kwargs)


class QKVProjection(nn.Module):
    """Modulated norm, projections, QK-norm and rotation."""

    def __init__(self, width: int, heads: int, head_width: int, gate_std: float) -> None:
        super().__init__()
        self.shape = (heads, head_width)
        self.modulation = Modulation(width, 3, gate_std)
        self.project = linear(width, 3 * heads * head_width)
        self.q_norm = RMSNorm(head_width)
        self.k_norm = RMSNorm(head_width)

    def forward(
        self, x: Tensor, rows: Tensor, row: Tensor | None, tables: Tables | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[B, G, n, D] -> q, k, v [B, S, K, E] and the gate."""
        shift, scale, gate = self.modulation(rows, row)
        qkv = self.project(modulate(x, shift, scale).flatten(1, 2))  # [B, S, 3 K E]
        q, k, v = qkv.unflatten(-1, (3, *self.shape)).unbind(2)
        q, k = self.q_norm(q), self.k_norm(k)
        if tables is not None:
            q, k = rotate(q, *tables), rotate(k, *tables)
        return q, k, v, gate


class OutputProjection(nn.Module):
    """x + gate * projection."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.project = linear(inner, width)

    def forward(self, x: Tensor, mixed: Tensor, gate: Tensor) -> Tensor:
        """x [B, G, n, D], mixed [B, S, K, E]."""
        return x + gate * self.project(mixed.flatten(2)).view_as(x)
