"""Clips that a world with a memory dreamed: the memory then holds generated frames, as in play.

Chained training of Memory Forcing (Huang et al., arXiv 2510.03198, 3.3) with dreams made beforehand: later windows see
generated frames instead of recorded ones, drift makes them unreliable, and the model learns to lean on its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from vidar.model.geometry import Geometry, Place
from vidar.model.load import load, load_world_config, locate
from vidar.nn.pose import motion
from vidar.rng import Rng
from vidar.rollout.codec import Codec
from vidar.train.dreamed import TOGETHER, DreamedClips, DreamedClipsConfig
from vidar.train.latents import LatentBatch
from vidar.train.remembered import RememberedClips, RememberedClipsConfig
from vidar.types import UsageError


class RememberedDreamsConfig(DreamedClipsConfig, RememberedClipsConfig):
    """As RememberedClipsConfig; `share` of the clips are seen as `world` dreamed them, with what its memory showed.

    The world walks along the recorded poses, so that what it sees and the recorded frames are views from one place.
    """

    def build(self) -> RememberedDreams:
        """As `DreamedClipsConfig.build`. Raises UsageError also for a world without a memory."""
        if load_world_config(locate(self.world)).memory is None:
            raise UsageError(f"{self.world}: has no memory; give a world with one, or take DreamedClipsConfig")
        return RememberedDreams(self)


class RememberedDreams(DreamedClips, RememberedClips):  # pyright: ignore[reportIncompatibleVariableOverride]  # config
    """`batch(index)` is a pure function of the index. dreamed: views bfloat16 [D, T, n, W] of the frames of `seen`."""

    dreamed: Tensor

    def replaced(self, plain: LatentBatch, chosen: dict[int, tuple[int, slice]]) -> LatentBatch:
        """See `DreamedClips`."""
        made = super().replaced(plain, chosen)
        assert made.views is not None
        views = made.views.clone()
        for row, (dream, span) in chosen.items():
            views[row] = self.dreamed[dream, span].to(views)
        return replace(made, views=views)

    @torch.inference_mode()
    def _dreamed(self, real: int) -> Tensor:
        """See `DreamedClips`; notes what the memory shows. What it showed of the context is what it shows of data."""
        c, world = self.config, load(self.config.world)
        memory, found, views = world.memory, list[Tensor](), list[Tensor]()
        assert isinstance(memory, Geometry)
        for begin in range(0, c.dreams, TOGETHER):
            places = self.places[begin : begin + TOGETHER]
            codes, actions = self.codes[places].float(), self.actions[places]
            rngs = [Rng(c.seed, begin + d) for d in range(len(places))]
            world.memory = rails = Rails(memory, self.pose[places])
            ahead = iter(actions[:, c.known :].unbind(1))
            made = world.codes(codes[:, : c.known], ahead, actions[:, : c.known], rngs)
            made = torch.stack(list(islice(made, c.frames)), 1)
            shown = torch.stack(rails.shown[: c.frames], 1)
            last = slice(c.known - real, c.known)
            found.append(torch.cat([codes[:, last], made], 1).to(torch.bfloat16))
            views.append(torch.cat([self.views[places[:, last]].float(), shown], 1).to(torch.bfloat16))
        self.dreamed = torch.cat(views)
        return torch.cat(found)


@dataclass(frozen=True)
class OnRails:
    """The state of a row: its memory, the number of its poses, and how many of them it has passed."""

    place: Place
    row: int
    passed: int


class Rails:
    """A memory (see `vidar.rollout.memory.Memory`) whose rows move along given poses [B, T, 4], one per frame.

    shown: what it showed of each frame, [B, n, W] each. Rows are started in the order of the poses.
    """

    def __init__(self, memory: Geometry, poses: Tensor) -> None:
        self.memory, self.poses, self.started = memory, poses, 0
        self.moved = torch.cat([torch.zeros(len(poses), 1, 3), motion(poses).float()], 1)
        self.shown = list[Tensor]()

    def start(self, pictures: Tensor, actions: Tensor | None) -> OnRails:
        """See `Memory`."""
        state = OnRails(self.memory.empty(self.poses[self.started, 0]), self.started, 0)
        self.started += 1
        for number, picture in enumerate(pictures):
            state = self.ahead(state, torch.zeros(0)) if number else state
            state = self.keep(state, picture)
        return state

    def ahead(self, state: OnRails, action: Tensor) -> OnRails:
        """See `Memory`. The action is not needed."""
        passed = state.passed + 1
        place = self.memory.at(state.place, self.poses[state.row, passed], self.moved[state.row, passed])
        return OnRails(place, state.row, passed)

    def show(self, states: Sequence[OnRails], codec: Codec) -> Tensor:
        """See `Memory`."""
        self.shown.append(self.memory.show([state.place for state in states], codec).float())
        return self.shown[-1]

    def keep(self, state: OnRails, picture: Tensor) -> OnRails:
        """See `Memory`."""
        return replace(state, place=self.memory.keep(state.place, picture))
