"""The one formula of visibility, written densely. It specifies every faster implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from vidar.core.relation import Relation
from vidar.types import MEMORY, Slots


def pair_rule(
    relation: Relation,
    cell_q: Tensor,
    cell_k: Tensor,
    unit_q: Tensor,
    unit_k: Tensor,
    role_q: Tensor,
    role_k: Tensor,
) -> Tensor:
    """Visibility by cell, unit and role, without folds and `keep`. All arguments broadcast against one another.

    rule(q, k)   = memory(q, k) if q is MEMORY else sees(q, k)
    k MEMORY:    visible = rule and (q is MEMORY or unit(q) != unit(k))
    k QUERY:     visible = rule and  q is QUERY  and (unit(q) == unit(k) or joint)
    """
    from_memory = role_q == MEMORY
    sees = relation.sees(cell_q, cell_k)
    rule = sees if relation.memory is None else torch.where(from_memory, relation.memory(cell_q, cell_k), sees)
    same = unit_q == unit_k
    in_flight = ~from_memory & (same | relation.joint)
    fits = torch.where(role_k == MEMORY, from_memory | ~same, in_flight)
    return rule & fits & (cell_q >= 0) & (cell_k >= 0)


def fold_axes(relation: Relation, axes: tuple[str, ...]) -> list[int]:
    """Column numbers of a relation's fold axes."""
    return [axes.index(name) for name in relation.fold]


def visible(
    relation: Relation,
    q: Slots,
    k: Slots,
    axes: tuple[str, ...],
    keep: Tensor | None = None,
) -> Tensor:
    """Dense mask bool [B, Q, K], True = may read; B is 1 if all rows of the batch agree.

    keep: bool [B or 1, 2, C, C] by role of the reader, cell of the reader and cell of the key; it is and-ed to the
    rule.
    """
    cell_q, cell_k = q.cell[:, :, None], k.cell[:, None, :]
    mask = pair_rule(
        relation, cell_q, cell_k, q.unit[:, :, None], k.unit[:, None, :], q.role[:, :, None], k.role[:, None, :]
    )
    for axis in fold_axes(relation, axes):
        mask = mask & (q.coord[:, :, None, axis] == k.coord[:, None, :, axis])
    if keep is not None:
        rows = torch.arange(keep.shape[0])[:, None, None]
        mask = mask & keep[rows, q.role[:, :, None], cell_q.clamp(min=0), cell_k.clamp(min=0)]
    return mask
