"""Codes to pictures, frame after frame. What a tokenizer remembers of a row is one of the trees of the row's state.

It is there as a promise (`Memory`): made with the frame, kept with its picture. So one other thread may decode frames,
in their order, while the next one is made, and going back to a moment brings the older promise back. Where the
tokenizer decodes every frame by itself, a row has none.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.types import Tree

if TYPE_CHECKING:
    from vidar.world.world import World, WorldConfig

EXTRA = "tokenizer"  # its name in RowState.extras


def looks_back(config: WorldConfig) -> bool:
    """Whether the picture of a frame depends on the codes of earlier ones."""
    return config.tokenizer.time_kernel > 1


@dataclass(frozen=True)
class Memory:
    """What the tokenizer remembers of a row after a decoding, of which it is row `row`. clock: the row's, then."""

    decoding: Decoding
    row: int
    clock: int


class Decoding:
    """Pictures that are decoded when they are first asked for; all decodings of a world's rows by the same thread.

    codes [B, T, n, C]; before: what is remembered of each row, None: nothing, it is a new video. Of all: None.
    """

    def __init__(self, world: World, codes: Tensor, before: Sequence[Memory | None] | None = None) -> None:
        self.world, self._codes, self._before = world, codes, before or [None] * len(codes)
        self._frames: Tensor | None = None
        self._after: list[tuple[Tree, int]] = []

    def frames(self) -> Tensor:
        """uint8 [B, T, H, W, 3], not to be changed."""
        if self._frames is None:
            self._frames, self._after = self._decoded()
            self._codes, self._before = self._codes[:0], ()  # or all earlier ones would stay
        return self._frames

    def after(self, row: int) -> tuple[Tree, int]:
        """What the tokenizer remembers of a row: row i of a tree of tensors."""
        self.frames()
        return self._after[row]

    @torch.inference_mode()
    def _decoded(self) -> tuple[Tensor, list[tuple[Tree, int]]]:
        """Rows of equal trees in one call. Always the whole batch, as the bits of a row depend on its size."""
        if not any(self._before):
            video, tree = self.world.decode(self._codes)
            return video, [(tree, row) for row in range(len(video))]
        known = [None if memory is None else memory.decoding.after(memory.row) for memory in self._before]
        groups: dict[Hashable, list[int]] = {}
        for row, part in enumerate(known):
            groups.setdefault(None if part is None else _kind(part[0]), []).append(row)
        frames: Tensor | None = None
        after: dict[int, tuple[Tree, int]] = {}
        for group in groups.values():
            parts = [known[row if row in group else group[0]] for row in range(len(known))]
            filled = [part for part in parts if part is not None]
            before = _joined([tree for tree, _ in filled], [row for _, row in filled]) if filled else None
            video, tree = self.world.decode(self._codes, before)
            frames = video if frames is None else frames.index_copy(0, torch.tensor(group), video[group])
            after |= {row: (tree, row) for row in group}
        assert frames is not None
        return frames, [after[row] for row in range(len(known))]


def remember(world: World, rows: Sequence[RowState], codes: Tensor) -> None:
    """Rows go on after a context, codes [b, T, n, C]: the tokenizer has seen it, and nothing before it."""
    if looks_back(world.config):
        _note(rows, Decoding(world, codes))


def following(world: World, rows: Sequence[RowState], codes: Tensor) -> Decoding:
    """The pictures [b, 1, H, W, 3] of the next frame of some rows, codes [b, n, C]."""
    decoding = Decoding(world, codes[:, None], [row.extras.get(EXTRA) for row in rows])
    if looks_back(world.config):
        _note(rows, decoding)
    return decoding


def last_picture(world: World, row: RowState, context: Tensor) -> Tensor:
    """Of the context that a row was begun after, codes [T, n, C]: uint8 [H, W, 3]."""
    memory: Memory | None = row.extras.get(EXTRA)
    if memory is None:
        return world.decode(context[None, -1:])[0][0, 0]
    return memory.decoding.frames()[memory.row, -1]


def _note(rows: Sequence[RowState], decoding: Decoding) -> None:
    for number, row in enumerate(rows):
        row.extras[EXTRA] = Memory(decoding, number, row.clock)


def _kind(tree: Any) -> Hashable:
    """Equal for trees that can be rows of one."""
    if isinstance(tree, Mapping):
        return tuple((name, _kind(value)) for name, value in sorted(tree.items()))
    return tuple(tree.shape[1:]) if isinstance(tree, Tensor) else tree


def _joined(trees: Sequence[Any], rows: Sequence[int]) -> Any:
    """The tree whose row i is row `rows[i]` of tree i."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {name: _joined([tree[name] for tree in trees], rows) for name in first}
    if not isinstance(first, Tensor):
        return first
    if all(tree is first for tree in trees) and list(rows) == list(range(len(first))):
        return first
    return torch.cat([tree[row : row + 1] for tree, row in zip(trees, rows, strict=True)])
