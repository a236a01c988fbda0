"""Decode codes to pictures frame by frame. The state of the tokenizer is stored in the state of each row.

It is stored as a promise (`Memory`): the promise is made together with the frame and fulfilled when the picture is
decoded. Another thread may therefore decode frames, in their order, while the next frame is generated, and restoring a
snapshot brings the older promise back. If the tokenizer decodes every frame by itself, rows have no such state.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vidar.core.state import RowState
from vidar.types import Tree

EXTRA = "tokenizer"  # the key in RowState.extras


class Codec(Protocol):
    """Encodes pictures to codes and decodes them."""

    @property
    def looks_back(self) -> bool:
        """Whether the picture of a frame depends on the codes of earlier ones."""
        ...

    def context_frames(self, context: Any) -> Tensor:
        """Frames, one frame, a path, or None (the model's own start clip) -> uint8 [T, H, W, 3].

        Raises VidarError for anything else.
        """
        ...

    def encode(self, video: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> codes float32 [B, T, n, C] per frame."""
        ...

    def decode(self, codes: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Codes [B, T, n, C] -> (uint8 [B, T, H, W, 3], the new tokenizer state)."""
        ...


@dataclass(frozen=True)
class Memory:
    """The tokenizer state of a row after a decoding.

    row: the row's index in that decoding. clock: the clock of the row when the decoding was made.
    """

    decoding: Decoding
    row: int
    clock: int


class Decoding:
    """Pictures that are decoded when they are first requested, in any thread.

    If the tokenizer looks back, all decodings of a rollout's rows must run in the same thread. codes [B, T, n, C].
    before: the tokenizer state of each row, None for a row that starts a new video; None altogether if all rows do.
    """

    def __init__(self, codec: Codec, codes: Tensor, before: Sequence[Memory | None] | None = None) -> None:
        self.codec, self._codes, self._before = codec, codes, before or [None] * len(codes)
        self._frames: Tensor | None = None
        self._after: list[tuple[Tree, int]] = []
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}  # a copy has its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def frames(self) -> Tensor:
        """Returns uint8 [B, T, H, W, 3]; do not modify it in place."""
        with self._lock:
            if self._frames is None:
                self._frames, self._after = self._decoded()
                self._codes, self._before = self._codes[:0], ()  # otherwise all earlier decodings would stay in memory
            return self._frames

    def after(self, row: int) -> tuple[Tree, int]:
        """The tokenizer state of a row: a tree of tensors, and the index of the row in it."""
        self.frames()
        return self._after[row]

    @torch.inference_mode()
    def _decoded(self) -> tuple[Tensor, list[tuple[Tree, int]]]:
        """Decode rows with equal trees in one call, always as the whole batch: the bits of a row depend on its size."""
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
    """Start rows after a context, codes [b, T, n, C]: the tokenizer state then covers only the context."""
    if codec.looks_back:
        _note(rows, Decoding(codec, codes))


def following(codec: Codec, rows: Sequence[RowState], codes: Tensor) -> Decoding:
    """The pictures [b, F, H, W, 3] of the next frames of some rows, whose codes are [b, F, n, C]."""
    decoding = Decoding(codec, codes, [row.extras.get(EXTRA) for row in rows])
    if codec.looks_back:
        _note(rows, decoding)
    return decoding


def last_picture(codec: Codec, row: RowState, context: Tensor) -> Tensor:
    """The last picture, uint8 [H, W, 3], of the context [T, n, C] after which a row was opened."""
    memory: Memory | None = row.extras.get(EXTRA)
    if memory is None:
        return codec.decode(context[None, -1:])[0][0, 0]
    return memory.decoding.frames()[memory.row, -1]


def _note(rows: Sequence[RowState], decoding: Decoding) -> None:
    for number, row in enumerate(rows):
        row.extras[EXTRA] = Memory(decoding, number, row.clock)


def _kind(tree: Any) -> Hashable:
    """A key that is equal for trees that can be joined into one batch."""
    if isinstance(tree, Mapping):
        return tuple((name, _kind(value)) for name, value in sorted(tree.items()))
    return tuple(tree.shape[1:]) if isinstance(tree, Tensor) else tree


def _joined(trees: Sequence[Any], rows: Sequence[int]) -> Any:
    """Join trees into one batch: row i of the result is row `rows[i]` of tree i."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {name: _joined([tree[name] for tree in trees], rows) for name in first}
    if not isinstance(first, Tensor):
        return first
    if all(tree is first for tree in trees) and list(rows) == list(range(len(first))):
        return first
    return torch.cat([tree[row : row + 1] for tree, row in zip(trees, rows, strict=True)])
