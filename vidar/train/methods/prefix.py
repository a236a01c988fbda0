"""Training of chunks over a clean prefix of random length (Ca2-VDM, 2.2): every frame of a clip stands once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, cast, runtime_checkable

from pydantic import model_validator
from torch import Tensor

from vidar.core.layout import Layout, compile_layout
from vidar.core.objective import Denoiser, Objective
from vidar.core.step import Row
from vidar.core.system import System
from vidar.rng import Rng
from vidar.train.methods.latent_clips import LearnsWorldConfig
from vidar.train.methods.supervised import Supervised
from vidar.train.ranks import ALONE, Ranks
from vidar.types import MEMORY, QUERY, Target


@runtime_checkable
class Chunked(Protocol):
    """What cuts a clip into chunks: `first` frames, then `chunk` at a time."""

    chunk: int
    first: int


@runtime_checkable
class OverPrefix(Chunked, Protocol):
    """An order of chunks over at most `window` clean frames; positions: length of the table of temporal ones."""

    window: int

    @property
    def positions(self) -> int:
        """L_max = P_max + l."""
        ...


class TrainPrefixConfig(LearnsWorldConfig):
    """A world whose order is one of chunks over a prefix; clips are as long as both."""

    @model_validator(mode="after")
    def _check(self) -> TrainPrefixConfig:
        order, hint = self.order, getattr(self.world.objective, "hint", None)
        if isinstance(hint, Chunked) and (hint.chunk, hint.first) != (order.chunk, order.first):
            raise ValueError(
                f"world.objective.hint has chunk {hint.chunk}, first {hint.first}; the order has {order.chunk} and "
                f"{order.first}"
            )
        return self

    @property
    def order(self) -> OverPrefix:
        """Of the world. Raises ValueError where it has no prefix."""
        order = self.world.order
        if not isinstance(order, OverPrefix):
            raise ValueError(f"world.order is a {type(order).__name__}; this trains those of PrefixOrderConfig")
        return order

    @property
    def clip_frames(self) -> int:
        """Frames of a clip: the longest prefix and a chunk, P_max + l."""
        return self.order.window + self.order.chunk

    def build(self) -> TrainPrefix:
        """The method."""
        return TrainPrefix(self)

    def length(self) -> int:
        """Frames of a clip."""
        return self.clip_frames

    def layout(self, system: System[Objective], length: int | None = None) -> Layout:
        """Prefix of `length` frames (None: the longest) and chunk in one call without a state."""
        length = self.order.window if length is None else length
        clean = tuple(Row(u, MEMORY, None) for u in range(length))
        chunk = tuple(Row(length + u, QUERY, 0) for u in range(self.order.chunk))
        return compile_layout(clean + chunk, system.order, [system.grid])


class TrainPrefix(Supervised[TrainPrefixConfig]):
    """Supervised, on a layout that is drawn.

    A batch shares the length P of its prefix, one of first, first + l .. P_max, and the offset of its positions, so
    that one layout serves: P frames as MEMORY, l as QUERY, all of one level in a clip, and the loss on those alone.
    """

    def __init__(self, config: TrainPrefixConfig):
        super().__init__(config)
        order = config.order
        self.lengths = range(order.first, order.window + 1, order.chunk)
        shorter = {length: config.layout(self.system, length) for length in self.lengths[:-1]}
        self.layouts = {**shorter, order.window: self.layout}

    def drawn(self, rng: Rng, ranks: Ranks = ALONE) -> tuple[int, int]:
        """Length of the prefix and offset of the positions of a batch, on all ranks those of rank 0.

        The offset is 0 where not all positions are used, as at the beginning of a video, else uniform (2.2).
        """
        length = self.lengths[int(ranks.agree(float(rng.uniform("prefix_length"))) * len(self.lengths))]
        offset = int(ranks.agree(float(rng.uniform("prefix_offset"))) * self.config.order.positions)
        return length, offset if length == self.config.order.window else 0

    def placed(self, length: int, offset: int) -> Layout:
        """The layout of a prefix, its positions moved on; who reads whom stays."""
        layout = self.layouts[length]
        if not offset:
            return layout
        coord = layout.slots.coord.clone()
        coord[..., 0] = (coord[..., 0] + offset) % self.config.order.positions
        return replace(layout, slots=replace(layout.slots, coord=coord), memo={}, block=None)

    def asked(self, codes: Tensor, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> tuple[Tensor, Target, Layout]:
        """See `Supervised.asked`; the first clip draws what the batch shares."""
        length, offset = self.drawn(rngs[0], ranks)
        return *self.prepared(codes, length, rngs), self.placed(length, offset)

    def prepared(self, codes: Tensor, length: int, rngs: Sequence[Rng]) -> tuple[Tensor, Target]:
        """Codes [B, T, n, C] -> seen [B, S, I] and target; the frames of a chunk are at one level in each clip."""
        layout, objective = self.layouts[length], cast(Denoiser, self.objective)
        levels, used = objective.training_levels([length], rngs), codes[:, : length + self.config.order.chunk]
        return objective.prepare(used.flatten(1, 2), layout, rngs, levels=levels.expand(-1, layout.num_rows))[:2]
