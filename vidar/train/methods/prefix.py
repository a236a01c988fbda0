"""Training of chunks after a clean prefix of random length (Ca2-VDM, Gao et al., ICML 2025): frames occur once."""

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
    """An order or hint that cuts a clip into chunks: `first` frames, then `chunk` frames at a time."""

    chunk: int
    first: int


@runtime_checkable
class OverPrefix(Chunked, Protocol):
    """An order of chunks after at most `window` clean frames. positions: length of the temporal position table."""

    window: int

    @property
    def positions(self) -> int:
        """The length L_max = P_max + l of the temporal position table."""
        ...


class TrainPrefixConfig(LearnsWorldConfig):
    """Training of a world whose order has chunks after a prefix; a clip is the longest prefix and a chunk."""

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
        """The order of the world. Raises ValueError if it has no prefix."""
        order = self.world.order
        if not isinstance(order, OverPrefix):
            raise ValueError(f"world.order is a {type(order).__name__}; this trains those of PrefixOrderConfig")
        return order

    @property
    def clip_frames(self) -> int:
        """Number of frames of a clip: the longest prefix and a chunk, P_max + l."""
        return self.order.window + self.order.chunk

    def build(self) -> TrainPrefix:
        """The method."""
        return TrainPrefix(self)

    def length(self) -> int:
        """Number of frames of a clip."""
        return self.clip_frames

    def layout(self, system: System[Objective], length: int | None = None) -> Layout:
        """The layout of a prefix of `length` frames (None: the longest) and a chunk, in one call without a state."""
        length = self.order.window if length is None else length
        clean = tuple(Row(u, MEMORY, None) for u in range(length))
        chunk = tuple(Row(length + u, QUERY, 0) for u in range(self.order.chunk))
        return compile_layout(clean + chunk, system.order, [system.grid])


class TrainPrefix(Supervised[TrainPrefixConfig]):
    """Supervised training with a random prefix length and position offset.

    All clips of a batch share the prefix length P, one of first, first + l .. P_max, and the offset of the positions,
    so that they have one layout: P frames as MEMORY, then l frames as QUERY, which have one level per clip and the
    loss.
    """

    def __init__(self, config: TrainPrefixConfig):
        super().__init__(config)
        order = config.order
        self.lengths = range(order.first, order.window + 1, order.chunk)
        shorter = {length: config.layout(self.system, length) for length in self.lengths[:-1]}
        self.layouts = {**shorter, order.window: self.layout}

    def drawn(self, rng: Rng, ranks: Ranks = ALONE) -> tuple[int, int]:
        """Prefix length and position offset of a batch; all ranks use those of rank 0.

        The offset is 0 if not all positions are used, as at the start of a video, otherwise uniform (Ca2-VDM).
        """
        length = self.lengths[int(ranks.agree(float(rng.uniform("prefix_length"))) * len(self.lengths))]
        offset = int(ranks.agree(float(rng.uniform("prefix_offset"))) * self.config.order.positions)
        return length, offset if length == self.config.order.window else 0

    def placed(self, length: int, offset: int) -> Layout:
        """The layout of a prefix with shifted positions and unchanged visibility."""
        layout = self.layouts[length]
        if not offset:
            return layout
        coord = layout.slots.coord.clone()
        coord[..., 0] = (coord[..., 0] + offset) % self.config.order.positions
        return replace(layout, slots=replace(layout.slots, coord=coord), memo={}, block=None)

    def asked(self, codes: Tensor, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> tuple[Tensor, Target, Layout]:
        """See `Supervised.asked`. The first clip draws prefix length and offset of the batch."""
        length, offset = self.drawn(rngs[0], ranks)
        return *self.prepared(codes, length, rngs), self.placed(length, offset)

    def prepared(self, codes: Tensor, length: int, rngs: Sequence[Rng]) -> tuple[Tensor, Target]:
        """Codes [B, T, n, C] -> network inputs [B, S, I] and target; the frames of a chunk have one level per clip."""
        layout, objective = self.layouts[length], cast(Denoiser, self.objective)
        levels, used = objective.training_levels([length], rngs), codes[:, : length + self.config.order.chunk]
        return objective.prepare(used.flatten(1, 2), layout, rngs, levels=levels.expand(-1, layout.num_rows))[:2]
