"""Attention by runs: each group of slots attends, without a mask, to the slices of keys that it may see.

This pays in training on a CPU. A causal mask over frames makes half of the S x T products useless, two copies make
three quarters useless, and no CPU kernel skips them. Autograd over slices would fill whole tensors with zeros once
per group, so the backward pass is written by hand and adds into slices of dk and dv.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidar.core.layout import View
from vidar.nn.attention import Attention, AttentionConfig, SDPAConfig, heads_first
from vidar.nn.runs import Group, Span, groups


class SlicesConfig(AttentionConfig):
    """Exact if the slots of one run see the same keys (no folds, and all rows of the batch agree).

    Otherwise it is SDPA.

    First derivatives only, without forward mode; methods that need more must use ExplicitConfig.
    """

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        found = groups(view)
        return SDPAConfig().build(view, device, grad) if found is None else by_slices(found)


def by_slices(found: Sequence[Group]) -> Attention:
    """The attention of these groups."""
    return lambda q, k, v: SliceAttention.apply(q, k, v, found, None)


class SliceAttention(torch.autograd.Function):
    """q [B, S, K, E], k and v [B, T, K, E] -> [B, S, K, E].

    hidden: bool [B or 1, 1, S, T], what may not be read, if there is one group of everything; else None. Only what a
    group reads is multiplied; its keys may be in several spans, and none of them is copied.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, found: Sequence[Group], hidden: Tensor | None) -> Tensor:
        """Per group: softmax(q k' / sqrt(E)) v."""
        scale, out, kept = q.shape[-1] ** -0.5, q.new_empty(q.shape), list[Tensor]()
        heads = [_flat(k.transpose(1, 2)), _flat(v.transpose(1, 2))]
        for group in found:
            mine = _rows(out, group.slots)
            if not group.keys:
                mine.zero_()
                continue
            q_g = _flat(_rows(q, group.slots) * scale)
            logits = _products(q_g, heads[0], group.keys)
            if hidden is not None:
                logits.view(*mine.shape[:3], -1).masked_fill_(hidden, float("-inf"))
            p = torch.softmax(logits, dim=-1)  # in float32 or wider, rounded once to the dtype given
            mine.copy_(_sums(p, heads[1], group.keys).view(mine.shape))
            kept.append(p)
        ctx.found = found
        ctx.save_for_backward(q, *heads, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # of a decorated one
        ctx: Any, d_out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """dv = P' do, dS = P (do v' - sum(do v' P)), dq = dS k, dk = dS' q."""
        q, k, v, *kept = ctx.saved_tensors
        scale, d_q, probabilities = q.shape[-1] ** -0.5, q.new_empty(q.shape), iter(kept)
        wide = torch.promote_types(q.dtype, torch.float32)
        d_k, d_v = torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        for group in ctx.found:
            mine = _rows(d_q, group.slots)
            if not group.keys:
                mine.zero_()
                continue
            p, do_g, q_g = next(probabilities), _flat(_rows(d_out, group.slots)), _flat(_rows(q, group.slots) * scale)
            d_s = _softmax_backward(_products(do_g, v, group.keys), p)
            torch.mul(_sums(d_s, k, group.keys).view(mine.shape), scale, out=mine)
            _add(d_v, group.keys, p, do_g)
            _add(d_k, group.keys, d_s, q_g)
        shape = (q.shape[0], q.shape[2], *k.shape[1:])
        d_k, d_v = (heads_first(part.view(shape)).to(q.dtype) for part in (d_k, d_v))
        return d_q, d_k, d_v, None, None


def _softmax_backward(d_p: Tensor, p: Tensor) -> Tensor:
    """p (dp - sum(dp p)); in float32 or wider, rounded once."""
    return torch.ops.aten._softmax_backward_data(d_p, p, -1, p.dtype)


def _rows(x: Tensor, span: Span) -> Tensor:
    """[B, S, K, E] -> [B, K, n, E], a view."""
    return x[:, span[0] : span[1]].transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    """[B, K, n, E] -> [B K, n, E], contiguous."""
    return x.contiguous().flatten(0, 1)


def _products(rows: Tensor, keys: Tensor, spans: Sequence[Span]) -> Tensor:
    """rows [B K, n, E] times the spans of keys [B K, T, E]: [B K, n, m]."""
    parts = [torch.bmm(rows, keys[:, first:last].transpose(1, 2)) for first, last in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _parts(p: Tensor, spans: Sequence[Span]) -> Iterator[tuple[Tensor, Span]]:
    """[B K, n, m] cut into the parts of each span."""
    at = 0
    for first, last in spans:
        yield p[..., at : at + last - first], (first, last)
        at += last - first


def _sums(p: Tensor, values: Tensor, spans: Sequence[Span]) -> Tensor:
    """p [B K, n, m] times the spans of values [B K, T, E]: [B K, n, E]."""
    (part, (first, last)), *rest = _parts(p, spans)
    total = torch.bmm(part, values[:, first:last])
    for part, (first, last) in rest:
        total.baddbmm_(part, values[:, first:last])
    return total


def _add(total: Tensor, spans: Sequence[Span], p: Tensor, rows: Tensor) -> None:
    """Add the products of p' [B K, m, n] and rows [B K, n, E] to the spans of [B K, T, E]."""
    for part, (first, last) in _parts(p, spans):
        total[:, first:last] += torch.bmm(part.transpose(1, 2), rows)
