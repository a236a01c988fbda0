"""Attention inside folds: slots with equal fold coordinates are gathered into groups, which become batch rows.

mask over S x T, fold (y, x)      gathered: one [n, m] block per place
a . . b . .                       a: frames of place 0      b: frames of place 1      ...
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vidar.core.layout import View
from vidar.core.mask import fold_axes, visible
from vidar.nn.attention import Attention, AttentionConfig, Dense, Masked, sdpa
from vidar.types import PAD, Slots


class FoldedConfig(AttentionConfig):
    """Exact for relations with folds if all rows of the batch agree; for every other view it is SDPA."""

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        return folded(view, device, sdpa)


def folded(view: View, device: torch.device, kernel: Dense) -> Attention:
    """The attention of a view by `kernel`, inside its folds if it has folds and all rows of the batch agree."""
    shared = view.q.cell.shape[0] == 1 and view.k.cell.shape[0] == 1 and view.keep is None
    if not (view.relation.fold and shared):
        return Masked.of(view, device).attention(kernel)
    return by_folds(view, device, kernel)


def by_folds(view: View, device: torch.device, kernel: Dense) -> Attention:
    """Gather, attend within groups [B G, n, K, E], scatter back. Short groups are padded."""
    q_index, k_index, home = fold_tables(view)
    inner = replace(view.relation, fold=())
    mask = visible(inner, _take(view.q, q_index), _take(view.k, k_index), view.axes)  # [G, n, m]
    blind = ~mask.any(dim=-1)
    open_ = None if bool(mask.all()) else (mask | blind[..., None])[None, :, None].to(device)  # [1, G, 1, n, m]
    hidden = blind[None, :, :, None, None].to(device) if bool(blind.any()) else None
    q_at, k_at, home = q_index.clamp(min=0).to(device), k_index.clamp(min=0).to(device), home.to(device)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q[:, q_at], k[:, k_at], v[:, k_at]  # [B, G, n, K, E]
        q, k, v = q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
        bias = None if open_ is None else open_.expand(q.shape[0], -1, -1, -1, -1).flatten(0, 1)
        out = kernel(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bias).view(*q.shape)
        out = out.transpose(2, 3)
        out = out if hidden is None else out.masked_fill(hidden, 0.0)
        return out.flatten(1, 2)[:, home]

    return attention


def fold_tables(view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Slots [G, n] and keys [G, m] of each group, padded with PAD, and long [S]: the place of each slot."""
    axes = fold_axes(view.relation, view.axes)
    both = torch.cat([view.q.coord[0][:, axes], view.k.coord[0][:, axes]])
    _, number = torch.unique(both, dim=0, return_inverse=True)
    size = view.q.cell.shape[1]
    q_group, k_group = number[:size], number[size:]
    count = int(number.max()) + 1
    q_index, home = _by_group(q_group, torch.ones_like(q_group, dtype=torch.bool), count)
    k_index, _ = _by_group(k_group, view.k.cell[0] != PAD, count)
    return q_index, k_index, home


def _by_group(group: Tensor, real: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Members [count, longest] of each group in order, padded with PAD; and the flat place of each member."""
    member = torch.nonzero(real)[:, 0]
    member = member[torch.argsort(group[member], stable=True)]
    lengths = torch.bincount(group[member], minlength=count)
    first = torch.cumsum(lengths, 0) - lengths
    within = torch.arange(member.shape[0]) - first[group[member]]
    index = torch.full((count, max(int(lengths.max()), 1)), PAD)
    index[group[member], within] = member
    home = torch.zeros_like(group)
    home[member] = group[member] * index.shape[1] + within
    return index, home


def _take(slots: Slots, index: Tensor) -> Slots:
    """Slots [1, S] -> [G, n]; PAD becomes padding."""
    at = index.clamp(min=0)
    cell = torch.where(index < 0, PAD, slots.cell[0][at])
    return Slots(slots.site[0][at], cell, slots.unit[0][at], slots.role[0][at], slots.coord[0][at])
