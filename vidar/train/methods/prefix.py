"""Training of chunks over a clean prefix of random length (Ca2-VDM, 2.2): every frame of a clip stands once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vidar.conditioning.net import WorldNet
from vidar.core.layout import Layout, compile_layout
from vidar.core.objective import Denoiser
from vidar.core.step import Row
from vidar.model.load import save
from vidar.model.model import VideoModel
from vidar.nn.pretrained import load_component
from vidar.objectives.prefix_hint import PrefixHintConfig
from vidar.orders.prefix import PrefixOrderConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.train.methods.latent_clips import LearnsWorldConfig
from vidar.train.methods.world import SHOWN, network, show, told
from vidar.types import MEMORY, QUERY, Loss, Target


class TrainPrefixConfig(LearnsWorldConfig):
    """tokenizer: directory of the trained one. start: directory of a world whose network is gone on from.

    p_unknown: share of clips whose actions are hidden from the model.
    """

    p_unknown: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> TrainPrefixConfig:
        order, hint = self.world.order, getattr(self.world.objective, "hint", None)
        if not isinstance(order, PrefixOrderConfig):
            raise ValueError(f"world.order is a {type(order).__name__}; this trains those of PrefixOrderConfig")
        if isinstance(hint, PrefixHintConfig) and (hint.chunk, hint.first) != (order.chunk, order.first):
            raise ValueError(
                f"world.objective.hint has chunk {hint.chunk}, first {hint.first}; the order has {order.chunk} and "
                f"{order.first}"
            )
        return self

    @property
    def order(self) -> PrefixOrderConfig:
        """Of the world."""
        assert isinstance(self.world.order, PrefixOrderConfig)
        return self.world.order

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


class TrainPrefix:
    """`step` is one loss on latent clips; `export` writes a world directory.

    A batch shares the length P of its prefix, one of first, first + l .. P_max, and the offset of its positions, so
    that one layout serves: P frames as MEMORY, l as QUERY, all of one level in a clip, and the loss on those alone.
    """

    def __init__(self, config: TrainPrefixConfig):
        self.config, order = config, config.order
        system = config.world.system(config.clip_frames)
        self.order, self.grid, self.objective = system.order, system.grid, cast(Denoiser, system.objective)
        self.lengths = range(order.first, order.window + 1, order.chunk)
        self.layouts = {length: self._layout(length) for length in self.lengths}
        self.layout = self.layouts[order.window]  # the largest

    def _layout(self, length: int) -> Layout:
        """Prefix and chunk in one call without a state."""
        clean = tuple(Row(u, MEMORY, None) for u in range(length))
        return compile_layout(
            clean + tuple(Row(length + u, QUERY, 0) for u in range(self.config.order.chunk)), self.order, [self.grid]
        )

    def build_model(self) -> WorldNet:
        """The network, fresh or as `start` has it. Raises UsageError where that is another network."""
        return network(self.config.world, self.config.start)

    def drawn(self, rng: Rng) -> tuple[int, int]:
        """Length of the prefix and offset of the positions of a batch.

        The offset is 0 where not all positions are used, as at the beginning of a video, else uniform (2.2).
        """
        length = self.lengths[int(float(rng.uniform("prefix_length")) * len(self.lengths))]
        offset = int(float(rng.uniform("prefix_offset")) * self.config.order.positions)
        return length, offset if length == self.config.order.window else 0

    def placed(self, length: int, offset: int) -> Layout:
        """The layout of a prefix, its positions moved on; who reads whom stays."""
        layout = self.layouts[length]
        if not offset:
            return layout
        coord = layout.slots.coord.clone()
        coord[..., 0] = (coord[..., 0] + offset) % self.config.order.positions
        return replace(layout, slots=replace(layout.slots, coord=coord), memo={}, block=None)

    def step(self, model: WorldNet, batch: LatentBatch, rngs: Sequence[Rng]) -> Loss:
        """Loss on a batch of latent clips, one Rng per clip; the first one draws what the batch shares."""
        length, offset = self.drawn(rngs[0])
        actions = told(batch, rngs, self.config.p_unknown)
        seen, target = self.prepared(batch.codes, length, rngs)
        return self.objective.loss(model(seen, self.placed(length, offset), actions), target)

    def prepared(self, codes: Tensor, length: int, rngs: Sequence[Rng]) -> tuple[Tensor, Target]:
        """Codes [B, T, n, C] -> seen [B, S, I] and target; the frames of a chunk are at one level in each clip."""
        layout, levels = self.layouts[length], self.objective.training_levels([length], rngs)
        used = codes[:, : length + self.config.order.chunk].flatten(1, 2)
        return self.objective.prepare(used, layout, rngs, levels=levels.expand(-1, layout.num_rows))[:2]

    def world(self, model: WorldNet) -> VideoModel:
        """A world of this network and the frozen tokenizer."""
        return VideoModel(self.config.world, load_component(self.config.tokenizer), model)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a world directory (bfloat16)."""
        save(self.world(model), directory)

    @torch.no_grad()
    def sample(self, model: WorldNet, batch: LatentBatch, path: Path) -> None:
        """Write PATH.mp4, see `vidar.train.methods.world.show`."""
        show(self.world(model), batch.codes[:SHOWN].float(), batch.actions[:SHOWN], path)
