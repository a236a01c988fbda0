"""Codes to pictures, frame after frame. What a tokenizer remembers of a row is one of the trees of the row's state.

It is there as a promise (`Memory`): made with the frame, kept with its picture. So one other thread may decode frames,
in their order, while the next one is made, and going back to a moment brings the older promise back. Where the
tokenizer decodes every frame by itself, a row has none.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.types import Tree

EXTRA = "tokenizer"  # its name in RowState.extras


class Codec(Protocol):
    """Pictures to codes and back."""

    @property
    def looks_back(self) -> bool:
        """Whether the picture of a frame depends on the codes of earlier ones."""
        ...

    def context_frames(self, context: Any) -> Tensor:
        """Frames, one frame, a path, or None (its own start) -> uint8 [T, H, W, 3]. Raises VidarError otherwise."""
        ...

    def encode(self, video: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> codes float32 [B, T, n, C], by frame."""
        ...

    def decode(self, codes: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Codes [B, T, n, C] -> (uint8 [B, T, H, W, 3], what the tokenizer remembers)."""
        ...


@dataclass(frozen=True)
class Memory:
    """What the tokenizer remembers of a row after a decoding, of which it is row `row`. clock: the row's, then."""

    decoding: Decoding
    row: int
    clock: int


class Decoding:
    """Pictures that are decoded when they are first asked for; all decodings of a codec's rows by the same thread.

    codes [B, T, n, C]; before: what is remembered of each row, None: nothing, it is a new video. Of all: None.
    """

    def __init__(self, codec: Codec, codes: Tensor, before: Sequence[Memory | None] | None = None) -> None:
        self.codec, self._codes, self._before = codec, codes, before or [None] * len(codes)
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
            video, tree = self.codec.decode(self._codes)
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
            video, tree = self.codec.decode(self._codes, before)
            frames = video if frames is None else frames.index_copy(0, torch.tensor(group), video[group])
            after |= {row: (tree, row) for row in group}
        assert frames is not None
        return frames, [after[row] for row in range(len(known))]


def remember(codec: Codec, rows: Sequence[RowState], codes: Tensor) -> None:
    """Rows go on after a context, codes [b, T, n, C]: the tokenizer has seen it, and nothing before it."""
    if codec.looks_back:
        _note(rows, Decoding(codec, codes))


def following(codec: Codec, rows: Sequence[RowState], codes: Tensor) -> Decoding:
    """The pictures [b, F, H, W, 3] of the next frames of some rows, codes [b, F, n, C]."""
    decoding = Decoding(codec, codes, [row.extras.get(EXTRA) for row in rows])
    if codec.looks_back:
        _note(rows, decoding)
    return decoding


def last_picture(codec: Codec, row: RowState, context: Tensor) -> Tensor:
    """Of the context that a row was begun after, codes [T, n, C]: uint8 [H, W, 3]."""
    memory: Memory | None = row.extras.get(EXTRA)
    if memory is None:
        return codec.decode(context[None, -1:])[0][0, 0]
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
