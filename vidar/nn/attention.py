"""Attention of the slots of a call to `ring ++ fresh` keys, by a View. One meaning, several forms, all exact.

A config chooses a form; `build(view, device, grad)` decides everything that depends on the view, once, and gives a
function of tensors alone: (q [B, S, K, E], k [B, T, K, E], v) -> [B, S, K, E]. A slot that sees nothing gets zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vidar.config import Config
from vidar.core.layout import View
from vidar.nn.case import Case, effective

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
Dense = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]  # q [.., S, E], k, v [.., T, E], mask -> [.., S, E]


class AttentionConfig(Config):
    """A form of attention."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """The attention of one view; `grad`: whether a backward pass will follow."""
        raise TypeError(f"{type(self).__name__} is not a form of attention; choose ExplicitConfig or another one")

    def dense(self, case: Case) -> Dense:
        """What computes a case without gradients whose mask is an argument; torch's attention, unless it says so."""
        return sdpa


def planned(config: AttentionConfig, view: View, device: torch.device, grad: bool) -> Attention:
    """`config.build`, once per view and device: kept in the memo of the view."""
    key = f"attention {config!r} {device} {grad}"
    if key not in view.memo:
        with torch.inference_mode(False), torch.no_grad():  # the memo outlives an inference_mode block
            view.memo[key] = config.build(view, device, grad)
    return view.memo[key]


def heads_first(x: Tensor) -> Tensor:
    """[B, S, K, E] <-> [B, K, S, E]."""
    return x.transpose(1, 2)


@dataclass(frozen=True)
class Masked:
    """The mask of a view on a device: open bool [B or 1, 1, S, T] or None, blind bool [B or 1, S, 1, 1] or None.

    Rows of `open` that see nothing are all True, so that neither softmax nor its gradient is NaN; `blind` marks them.
    """

    open: Tensor | None
    blind: Tensor | None

    @classmethod
    def of(cls, view: View, device: torch.device) -> Masked:
        """From a view."""
        if view.mask is None:
            return cls(None, None)
        if view.blind is None:
            return cls(view.mask[:, None].to(device, copy=True), None)
        filled = view.mask | view.blind[..., None]
        return cls(filled[:, None].to(device), view.blind[..., None, None].to(device, copy=True))

    def close(self, out: Tensor) -> Tensor:
        """Zero the slots that see nothing, [B, S, K, E]."""
        return out if self.blind is None else out.masked_fill(self.blind, 0.0)

    def attention(self, kernel: Dense) -> Attention:
        """What `kernel` computes under this mask."""
        return lambda q, k, v: self.close(
            heads_first(kernel(heads_first(q), heads_first(k), heads_first(v), self.open))
        )


class ExplicitConfig(AttentionConfig):
    """Matrix product, softmax in float32 or wider, matrix product: the specification of every other form."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        return Masked.of(view, device).attention(explicit)

    def dense(self, case: Case) -> Dense:
        """See `AttentionConfig`."""
        return explicit


def explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q [.., S, E] and k, v [.., T, E] -> [.., S, E]; mask bool, True = may read, broadcast to [.., S, T]."""
    logits = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if mask is not None:
        wide = wide.masked_fill(~mask, float("-inf"))
    return torch.matmul(torch.softmax(wide, dim=-1).to(v.dtype), v)


class SDPAConfig(AttentionConfig):
    """torch's scaled_dot_product_attention with the dense mask, or without one where everything is visible."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        return Masked.of(view, device).attention(sdpa)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's attention, q [.., S, E] and k, v [.., T, E] -> [.., S, E]; in float32 where bfloat16 trains slower."""
    return wide(q, k, v, mask) if slow_backward(q) else F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def wide(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's attention in float32, its result in the dtype that it would have had."""
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    return out.to(effective(q))


def slow_backward(q: Tensor) -> bool:
    """Whether q [.., S, E] is trained on a CPU where SDPA in bfloat16 is the slower one: narrow heads, or few slots.

    Choice by measurement (`scripts/bench_narrow_heads.py`): its backward is up to 8 times slower than in float32.
    """
    if q.device.type != "cpu" or not (q.requires_grad and torch.is_grad_enabled()):
        return False
    return effective(q) == torch.bfloat16 and (q.shape[-1] < 64 or q.shape[-2] <= 128)
