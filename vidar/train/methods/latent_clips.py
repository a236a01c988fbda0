"""What methods share that train a world on latent clips: their checks, and a step without storage."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import torch

from vidar.actions import ActionSpec
from vidar.conditioning.action import Actions
from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.core.layout import Layout
from vidar.data.index import Index
from vidar.model.model import VideoModelConfig
from vidar.train.checks import DryRun, check_equal, check_tokenizer
from vidar.types import UsageError


class Trains(Protocol):
    """A method that trains a network over one layout."""

    layout: Layout

    def build_model(self) -> WorldNet:
        """The network that is trained."""
        ...


class LearnsWorldConfig(Config):
    """The config of such a method. tokenizer: directory of the trained one. start: directory of a world whose network
    is gone on from.
    """

    world: VideoModelConfig
    tokenizer: str
    start: str | None = None

    @abstractmethod
    def length(self) -> int:
        """Frames of a clip."""

    @abstractmethod
    def build(self) -> Trains:
        """The method."""

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`: tokenizer, patch and length."""
        check_world(self.world)
        check_equal(data, {"tokenizer": self.tokenizer, "clip_frames": self.length(), "patch": self.world.patch})

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.Checks`: frame size, rate, actions, tokenizer."""
        world = self.world
        if index is not None:
            if (index.height, index.width) != (world.height, world.width):
                raise UsageError(
                    f"{data.path}: frames are {index.height} x {index.width} (height x width), the world is "
                    f"{world.height} x {world.width}"
                )
            if abs(index.fps - world.fps) > 1e-3 * world.fps:
                raise UsageError(f"{data.path}: runs at {index.fps:g} frames/s, the world at {world.fps:g}")
            ours, theirs = columns(index.spec), columns(world.spec)
            if ours != theirs:
                raise UsageError(f"{data.path}: actions are {', '.join(ours)}; the world has {', '.join(theirs)}")
        check_tokenizer(self.tokenizer, world.tokenizer)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`: the forward pass of the network."""
        built = self.replace(start=None).build()
        with torch.device("meta"):
            model = built.build_model()
        batch, frames, spec = data.batch, self.length(), self.world.spec
        inputs = torch.empty(batch, built.layout.slots.site.shape[1], self.world.net.backbone.in_width, device="meta")
        values = torch.empty(batch, frames, spec.width, device="meta")
        actions = Actions(values, torch.zeros(batch, frames, dtype=torch.bool, device="meta"))
        return DryRun(model, lambda: model(inputs, built.layout, actions))


def check_world(world: VideoModelConfig) -> None:
    """Sizes divide; network, objective and actions fit one another. Raises UsageError."""
    world.system()
    conditioner = world.net.conditioner
    if conditioner is not None and conditioner.action_spec() not in (None, world.spec):
        raise UsageError("net.conditioner.spec differs from the actions of the world; set both to the same")


def columns(spec: ActionSpec) -> list[str]:
    """What has to agree of two action specs: names and ranges in order."""
    return [f"{action.name} {action.lowest:g}..{action.highest:g}" for action in spec.actions]
