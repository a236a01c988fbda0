"""Cross-attention to the `memory` port: text, retrieved latents, references."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidar.nn.attention import heads_first, sdpa
from vidar.nn.block import Asked, Call, Modulation
from vidar.nn.embed import linear
from vidar.nn.mixers.config import MixerConfig
from vidar.nn.mixers.self_attention import OutputProjection
from vidar.nn.norm import RMSNorm, modulate


class CrossAttentionConfig(MixerConfig):
    """Every slot reads the whole memory of its batch row."""

    def build(
        self, width: int, heads: int, head_width: int, memory_width: int, gate_std: float, layer: int
    ) -> CrossAttention:
        """Raises ValueError if the backbone has no memory width."""
        if memory_width < 1:
            raise ValueError("cross-attention needs memory_width, the width of Cond.memory")
        return CrossAttention(width, heads, head_width, memory_width, gate_std)


class CrossAttention(nn.Module):
    """x + gate * attention(modulate(x), memory). Adds nothing without a memory or with a fully masked one."""

    def __init__(self, width: int, heads: int, head_width: int, memory_width: int, gate_std: float) -> None:
        super().__init__()
        self.shape = (heads, head_width)
        self.modulation = Modulation(width, 3, gate_std)
        self.query = linear(width, heads * head_width)
        self.key_value = linear(memory_width, 2 * heads * head_width)
        self.q_norm = RMSNorm(head_width)
        self.k_norm = RMSNorm(head_width)
        self.leave = OutputProjection(width, heads * head_width)

    def forward(self, x: Tensor, rows: Tensor, call: Call) -> Tensor:
        """[B, G, n, D] -> [B, G, n, D]."""
        if call.memory is None:
            return x
        shift, scale, gate = self.modulation(rows, call.row)
        q = self.q_norm(self.query(modulate(x, shift, scale).flatten(1, 2)).unflatten(-1, self.shape))
        k, v = self.key_value(call.memory).unflatten(-1, (2, *self.shape)).unbind(2)  # [B, J, K, E]
        q, k, v = heads_first(q), heads_first(self.k_norm(k)), heads_first(v)
        if call.memory_mask is None:
            return self.leave(x, heads_first(sdpa(q, k, v)), gate)
        empty = ~call.memory_mask.any(dim=-1)  # [B]
        seen = (call.memory_mask | empty[:, None])[:, None, None, :]
        mixed = sdpa(q, k, v, seen)
        mixed = torch.where(empty[:, None, None, None], 0.0, mixed)
        return self.leave(x, heads_first(mixed), gate)

    def answer(self, x: Tensor, rows: Tensor, call: Call, asked: Asked) -> Tensor:
        """See `vidar.nn.block.Answers`; slots do not read one another."""
        return self(asked.of_slots(x), asked.of_rows(rows), asked.call)
