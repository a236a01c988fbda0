"""Attention of the slots of a call to the `ring ++ fresh` keys of a View: one definition in several exact forms.

The config chooses the form. `build(view, device, grad)` decides everything that depends on the view, once, and
returns a function of tensors only: (q [B, S, K, E], k [B, T, K, E], v) -> [B, S, K, E]. A slot that sees nothing has
zero output.
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
    """The base class of the forms of attention."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """The attention of one view. grad: whether a backward pass will follow. The base class raises TypeError."""
        raise TypeError(f"{type(self).__name__} is not a form of attention; choose ExplicitConfig or another one")

    def dense(self, case: Case) -> Dense:
        """The function that computes a case without gradients and with the mask as an argument.

        By default it is torch's attention.
        """
        return sdpa


def planned(config: AttentionConfig, view: View, device: torch.device, grad: bool) -> Attention:
    """`config.build`, called once per view and device and kept in the memo of the view."""
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

    Rows of `open` that see nothing are all True, so that neither the softmax nor its gradient is NaN; `blind` marks
    them.
    """

    open: Tensor | None
    blind: Tensor | None

    @classmethod
    def of(cls, view: View, device: torch.device) -> Masked:
        """The mask of a view."""
        if view.mask is None:
            return cls(None, None)
        if view.blind is None:
            return cls(view.mask[:, None].to(device, copy=True), None)
        filled = view.mask | view.blind[..., None]
        return cls(filled[:, None].to(device), view.blind[..., None, None].to(device, copy=True))

    def close(self, out: Tensor) -> Tensor:
        """Set the output of slots that see nothing to zero, [B, S, K, E]."""
        return out if self.blind is None else out.masked_fill(self.blind, 0.0)

    def attention(self, kernel: Dense) -> Attention:
        """The attention that `kernel` computes under this mask."""
        return lambda q, k, v: self.close(
            heads_first(kernel(heads_first(q), heads_first(k), heads_first(v), self.open))
        )


class ExplicitConfig(AttentionConfig):
    """Matrix product, softmax in float32 or wider, matrix product: the reference for every other form."""

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
    """torch's scaled_dot_product_attention with the dense mask, or without one if everything is visible."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        return Masked.of(view, device).attention(sdpa)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's attention, q [.., S, E] and k, v [.., T, E] -> [.., S, E].

    Computed in float32 where bfloat16 would train slower.
    """
    return wide(q, k, v, mask) if slow_backward(q) else F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def wide(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's attention, shapes as `sdpa`, computed in float32, with the result in the dtype of the inputs."""
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    return out.to(effective(q))


def slow_backward(q: Tensor) -> bool:
    """Whether q [.., S, E] is trained on a CPU where SDPA is slower in bfloat16: with narrow heads or few slots.

    Choice by measurement (`scripts/bench_narrow_heads.py`): the backward pass is up to 8 times slower than in
    float32.
    """
    if q.device.type != "cpu" or not (q.requires_grad and torch.is_grad_enabled()):
        return False
    return effective(q) == torch.bfloat16 and (q.shape[-1] < 64 or q.shape[-2] <= 128)
