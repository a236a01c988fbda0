"""Attention by matrix products, for processors whose linear maps are faster than torch's own attention.

Choice: the logits are rounded to the dtype of the queries, as in ExplicitConfig, but never widened in memory. torch
computes a softmax of bfloat16 in float32 and rounds once, which gives the same bits as rounding a softmax of widened
logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidar.core.layout import View
from vidar.nn.attention import Attention, AttentionConfig, Dense, Masked
from vidar.nn.case import Case
from vidar.nn.runs import Group
from vidar.nn.slices import SliceAttention


class ProductConfig(AttentionConfig):
    """Matrix product, softmax in float32 or wider, matrix product, with a dense mask. First derivatives only."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        return by_product(Masked.of(view, device), grad)

    def dense(self, case: Case) -> Dense:
        """See `AttentionConfig`."""
        return product


def by_product(masked: Masked, grad: bool) -> Attention:
    """The attention under a mask."""
    if not grad:
        return masked.attention(product)
    hidden = None if masked.open is None else ~masked.open

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        whole = (Group((0, q.shape[1]), ((0, k.shape[1]),)),)
        return masked.close(SliceAttention.apply(q, k, v, whole, hidden))

    return attention


def product(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q [.., S, E] and k, v [.., T, E] -> [.., S, E]; mask bool, True = may read, broadcast to [.., S, T]."""
    logits = torch.matmul(q * q.shape[-1] ** -0.5, k.contiguous().transpose(-1, -2))
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return torch.matmul(torch.softmax(logits, dim=-1), v.contiguous())
