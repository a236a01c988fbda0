"""Attention by runs: each group of slots attends, without a mask, to slices of the keys it may see.

Training on a CPU is where this pays: a causal mask over frames makes half of the S x T work void, two copies three
quarters, and no kernel for CPUs skips it. Autograd over slices would fill whole tensors with zeros once per group, so
the backward pass is written by hand; it adds into slices of dk and dv.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidar.core.layout import View
from vidar.nn.attention import Attention, AttentionConfig, SDPAConfig, heads_first
from vidar.nn.runs import Group, Span, groups


class SlicesConfig(AttentionConfig):
    """Exact where slots of one run see the same keys: no folds, and all rows of the batch agree. Else it is SDPA.

    First derivatives only, and no forward-mode ones: ask for ExplicitConfig where a method needs those.
    """

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        found = groups(view)
        return SDPAConfig().build(view, device, grad) if found is None else by_slices(found)


def by_slices(found: Sequence[Group]) -> Attention:
    """The attention of these groups."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = (heads_first(part).contiguous() for part in (q, k, v))
        return heads_first(SliceAttention.apply(*parts, found))  # type: ignore[no-any-return]

    return attention


class SliceAttention(torch.autograd.Function):
    """q [B, K, S, E], k and v [B, K, T, E], all contiguous -> [B, K, S, E]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, found: Sequence[Group]) -> Tensor:
        """Per group: softmax(q k' / sqrt(E)) v."""
        out = torch.zeros_like(q) if any(not group.keys for group in found) else torch.empty_like(q)
        kept: list[Tensor] = []
        for group in found:
            if not group.keys:
                continue
            q_g, k_g, v_g = _slice(q, group.slots), _gather(k, group.keys), _gather(v, group.keys)
            p = _softmax(torch.bmm(q_g * q.shape[-1] ** -0.5, k_g.transpose(1, 2)))
            _slice_view(out, group.slots).copy_(torch.bmm(p, v_g).view(*q.shape[:2], -1, q.shape[-1]))
            kept.append(p)
        ctx.found = found
        ctx.save_for_backward(q, k, v, out, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """dv = P' do, dS = P (do v' - sum(do o)), dq = dS k, dk = dS' q."""
        q, k, v, out, *kept = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        d_out = d_out.contiguous()
        wide = torch.promote_types(q.dtype, torch.float32)
        inner = (d_out.to(wide) * out).sum(dim=-1, keepdim=True)  # [B, K, S, 1]
        d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        seeing = [group for group in ctx.found if group.keys]
        for group, p in zip(seeing, kept, strict=True):
            q_g, do_g = _slice(q, group.slots), _slice(d_out, group.slots)
            k_g, v_g = _gather(k, group.keys), _gather(v, group.keys)
            _scatter(d_v, group.keys, torch.bmm(p.transpose(1, 2), do_g))
            d_logits = torch.bmm(do_g, v_g.transpose(1, 2)).to(wide).sub_(_slice(inner, group.slots)).mul_(p)
            d_logits = d_logits.mul_(scale).to(q.dtype)
            _slice_view(d_q, group.slots).copy_(torch.bmm(d_logits, k_g).view(*q.shape[:2], -1, q.shape[-1]))
            _scatter(d_k, group.keys, torch.bmm(d_logits.transpose(1, 2), q_g))
        return d_q, d_k, d_v, None


def _softmax(logits: Tensor) -> Tensor:
    """Softmax in float32 or wider, result in the dtype of the logits."""
    return torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)).to(logits.dtype)


def _slice_view(x: Tensor, span: Span) -> Tensor:
    return x[:, :, span[0] : span[1]]


def _slice(x: Tensor, span: Span) -> Tensor:
    """[B, K, S, E] -> [B K, n, E], a view."""
    return _slice_view(x, span).flatten(0, 1)


def _gather(x: Tensor, spans: Sequence[Span]) -> Tensor:
    """[B, K, T, E] -> [B K, m, E]; a view where the keys are one span."""
    if len(spans) == 1:
        return _slice(x, spans[0])
    return torch.cat([_slice_view(x, span) for span in spans], dim=2).flatten(0, 1)


def _scatter(total: Tensor, spans: Sequence[Span], part: Tensor) -> None:
    """Add [B K, m, E] to the spans of [B, K, T, E]."""
    part = part.view(*total.shape[:2], -1, total.shape[-1])
    at = 0
    for first, last in spans:
        _slice_view(total, (first, last)).add_(part[:, :, at : at + last - first])
        at += last - first
