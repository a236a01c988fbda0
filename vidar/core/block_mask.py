"""FlexAttention BlockMasks computed in closed form from the rules over cells, without any slots x slots tensor.

Slots are cut into runs with equal (cell, unit, role, fold coordinates). A block of readers contains few distinct
kinds of slot. Each kind is compared with all runs of keys, and the results are joined per block of keys. The largest
tensor has kinds of one chunk x runs elements and is bounded by `BUDGET`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidar.core.layout import View
from vidar.core.mask import fold_axes, pair_rule
from vidar.types import Slots

BLOCK = 128  # slots per side of a block, the default of FlexAttention
BUDGET = 1 << 20  # maximum number of elements of one kinds x runs comparison


class Runs(NamedTuple):
    """Runs of equal slots within blocks: their keys [R, F], and the block number of each run [R]."""

    cell: Tensor
    unit: Tensor
    role: Tensor
    fold: Tensor
    block: Tensor


def runs_of(slots: Slots, b: int, folds: list[int]) -> Runs:
    """Cut batch row `b` of the slots into runs that do not cross a block border."""
    b = min(b, slots.site.shape[0] - 1)
    cell, unit, role, fold = slots.cell[b], slots.unit[b], slots.role[b], slots.coord[b][:, folds]
    block = torch.arange(cell.shape[0]) // BLOCK
    new = torch.ones_like(cell, dtype=torch.bool)
    same = (cell[1:] == cell[:-1]) & (unit[1:] == unit[:-1]) & (role[1:] == role[:-1]) & (block[1:] == block[:-1])
    new[1:] = ~(same & (fold[1:] == fold[:-1]).all(dim=-1))
    return Runs(cell[new], unit[new], role[new], fold[new], block[new])


def _compare(view: View, q: Runs, k: Runs, b: int) -> Tensor:
    """Visibility between runs by the one formula of `vidar.core.mask`: bool [Rq, Rk]."""
    see = pair_rule(
        view.relation, q.cell[:, None], k.cell[None], q.unit[:, None], k.unit[None], q.role[:, None], k.role[None]
    )
    for axis in range(q.fold.shape[1]):
        see &= q.fold[:, None, axis] == k.fold[None, :, axis]
    if view.keep is not None:
        see &= view.keep[min(b, len(view.keep) - 1)][
            q.role[:, None], q.cell.clamp(min=0)[:, None], k.cell.clamp(min=0)[None]
        ]
    return see


def block_table(view: View, b: int = 0) -> tuple[Tensor, Tensor]:
    """(any, all), bool [Q blocks, K blocks]: whether some or all pairs of a block are visible, for one batch row.

    A block that extends beyond the last slot is never `all`.
    """
    folds = fold_axes(view.relation, view.axes)
    q, k = runs_of(view.q, b, folds), runs_of(view.k, b, folds)
    shape = tuple(-(-s.site.shape[1] // BLOCK) for s in (view.q, view.k))
    some, every = torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
    step = max(1, BUDGET // k.cell.shape[0])
    ends = torch.bincount(k.block, minlength=shape[1]).cumsum(0)
    for first in range(0, q.cell.shape[0], step):
        part = Runs(*(field[first : first + step] for field in q))
        see = _compare(view, part, k, b)
        counts = torch.zeros(see.shape[0], see.shape[1] + 1, dtype=torch.int32)
        torch.cumsum(see, dim=1, dtype=torch.int32, out=counts[:, 1:])
        hits = torch.diff(counts[:, ends], dim=1, prepend=counts.new_zeros(see.shape[0], 1))
        full = hits == torch.diff(ends, prepend=ends.new_zeros(1))[None]
        some.index_put_((part.block,), hits > 0, accumulate=True)
        low, high = int(part.block[0]), int(part.block[-1])
        for block in range(low, high + 1):
            every[block] &= full[part.block == block].all(dim=0)
    if view.q.site.shape[1] % BLOCK:
        every[-1] = False
    if view.k.site.shape[1] % BLOCK:
        every[:, -1] = False
    return some, every


def mask_mod(view: View, device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The visibility rule in the form that FlexAttention calls: (batch, head, reader, key) -> bool.

    It only looks up vectors of length S.
    """
    device = torch.device(device)
    q, k = _on(view.q, device), _on(view.k, device)
    keep = None if view.keep is None else view.keep.to(device)
    rows_q, rows_k = q.site.shape[0], k.site.shape[0]
    folds = fold_axes(view.relation, view.axes)

    def rule(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        bq, bk = (b if rows_q > 1 else b * 0), (b if rows_k > 1 else b * 0)
        cell_q, cell_k = q.cell[bq, i], k.cell[bk, j]
        see = pair_rule(view.relation, cell_q, cell_k, q.unit[bq, i], k.unit[bk, j], q.role[bq, i], k.role[bk, j])
        for axis in folds:
            see = see & (q.coord[bq, i, axis] == k.coord[bk, j, axis])
        if keep is not None:
            see = see & keep[b if keep.shape[0] > 1 else b * 0, q.role[bq, i], cell_q.clamp(min=0), cell_k.clamp(min=0)]
        return see

    return rule


def _on(slots: Slots, device: torch.device) -> Slots:
    return Slots(*(getattr(slots, name).to(device) for name in ("site", "cell", "unit", "role", "coord")))


def _ordered(table: Tensor) -> tuple[Tensor, Tensor]:
    """Order the blocks of a table bool [B, Q, K] as FlexAttention expects: the number of set blocks [B, 1, Q] and
    their indices, set blocks first, [B, 1, Q, K]; both int32.
    """
    count = table.sum(dim=-1).to(torch.int32)[:, None]
    index = torch.argsort(table.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)[:, None]
    return count.contiguous(), index.contiguous()


def block_mask(view: View, device: torch.device | str = "cpu") -> Any:
    """The torch.nn.attention.flex_attention.BlockMask of a view, with one batch row if all rows agree.

    A rule given by a table looks it up on the table's own device. On a GPU use orders whose rules are formulas, or
    move the tables there.
    """
    from torch.nn.attention.flex_attention import BlockMask

    keep_rows = 1 if view.keep is None else view.keep.shape[0]
    rows = max(view.q.site.shape[0], view.k.site.shape[0], keep_rows)
    tables = [block_table(view, b) for b in range(rows)]
    some, every = torch.stack([t[0] for t in tables]), torch.stack([t[1] for t in tables])
    partial = _ordered(some & ~every)
    full = _ordered(every)
    parts = [part.to(device) for part in (*partial, *full)]
    lengths = (view.q.site.shape[1], view.k.site.shape[1])
    return BlockMask.from_kv_blocks(*parts, BLOCK_SIZE=BLOCK, mask_mod=mask_mod(view, device), seq_lengths=lengths)
