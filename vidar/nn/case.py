"""A description of one attention call, and a smaller call that is enough for timing it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidar.nn.runs import Group

ENOUGH = 2**30  # operations of a forward pass that are enough for timing


@dataclass(frozen=True)
class Case:
    """One attention call: everything that its fastest form may depend on.

    device    type of the device
    dtype     dtype of the products
    batch, heads, slots, keys, width    B, K, S, T, E
    masked    whether something is hidden
    groups    visibility by runs, if runs of slots see the same in all rows of the batch; else None
    ring      whether the keys include those of earlier calls: play, not training
    backward  whether a backward pass follows
    """

    device: str
    dtype: torch.dtype
    batch: int
    heads: int
    slots: int
    keys: int
    width: int
    masked: bool
    ring: bool
    backward: bool = False
    groups: tuple[Group, ...] | None = None

    @staticmethod
    def of(
        q: Tensor, k: Tensor, masked: bool, ring: bool, backward: bool, groups: tuple[Group, ...] | None = None
    ) -> Case:
        """The case of q [.., K, S, E] and k [.., K, T, E]."""
        (*rows, heads, slots, width), kind = q.shape, q.device.type
        sizes = math.prod(rows), heads, slots, k.shape[-2], width
        return Case(kind, effective(q), *sizes, masked, ring, backward, groups)

    @property
    def work(self) -> int:
        """Operations of the two products, counting hidden pairs."""
        return 4 * self.batch * self.heads * self.slots * self.keys * self.width

    @property
    def saved(self) -> int:
        """Number of hidden pairs of slots that the runs allow to skip."""
        return 0 if self.groups is None else self.slots * self.keys - sum(map(_pairs, self.groups))

    def enough(self, threads: int) -> Case:
        """The smaller case that is timed instead: fewer rows and heads, as many as `threads` share.

        If that is not enough, also evenly fewer slots.
        """
        batch = max(1, min(self.batch, ENOUGH * self.batch // self.work))
        case = replace(self, batch=batch)
        if case.work > ENOUGH:
            case = replace(case, heads=max(1, min(self.heads, max(threads, ENOUGH * self.heads // case.work))))
        return case if case.work <= ENOUGH else case._thinned(-(-case.work // ENOUGH))

    def _thinned(self, times: int) -> Case:
        """Every `times`-th group, or each group shortened; without groups the first slots."""
        if self.groups is None:
            return replace(self, slots=max(1, self.slots // times))
        few = len(self.groups) < times
        found, at = list[Group](), 0
        for group in self.groups if few else self.groups[times // 2 :: times]:
            length = group.slots[1] - group.slots[0]
            length = max(1, length // times) if few else length
            found.append(Group((at, at + length), group.keys))
            at += length
        return replace(self, slots=at, groups=tuple(found))

    def __str__(self) -> str:
        what = f"{self.device} {str(self.dtype).removeprefix('torch.')}"
        size = f"{self.batch}x{self.heads} heads of {self.width}, {self.slots} slots, {self.keys} keys"
        hidden = "masked" if self.masked else "all visible"
        if self.groups is not None and self.saved:
            hidden = f"runs {hashlib.sha256(repr(self.groups).encode()).hexdigest()[:10]}"
        return f"{what}, {size}, {hidden}{', ring' if self.ring else ''}{', backward' if self.backward else ''}"


def hides(groups: Iterable[Group], keys: int) -> bool:
    """Whether at least one slot does not see all keys."""
    return any(group.keys != ((0, keys),) for group in groups)


def effective(x: Tensor) -> torch.dtype:
    """The dtype in which products of x are computed under the current autocast setting."""
    kind = x.device.type
    casts = kind != "meta" and torch.is_autocast_enabled(kind)  # torch refuses to answer for meta tensors
    return torch.get_autocast_dtype(kind) if casts else x.dtype


def _pairs(group: Group) -> int:
    return (group.slots[1] - group.slots[0]) * sum(last - first for first, last in group.keys)
