"""Supervised training on known latents: the rows of a clip, what is told of it, and the loss of its objective.

    units of a clip      0 1 2 3
    rows of the call     m0 m1 m2 q1 q2 q3      what is shown, and what is asked; chosen by the config
    answers                       a1 a2 a3      compared with what the objective says they should be

Nothing here knows what the latents are of, or what is predicted of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from vidar.conditioning.net import WorldNet, WorldNetConfig
from vidar.config import Config
from vidar.core.layout import Layout
from vidar.core.objective import Objective
from vidar.core.system import System
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.train.checks import DryRun
from vidar.train.ranks import ALONE, Ranks
from vidar.types import Loss, Target, UsageError

MOST_SLOTS = 16_384  # of a sequence whose step is estimated: a table of who sees whom has its square


class SupervisedConfig(Config):
    """What tells one such method from another. tokenizer: directory of the trained one. start: directory of a model
    whose network is gone on from.
    """

    tokenizer: str
    start: str | None = None

    @property
    @abstractmethod
    def net(self) -> WorldNetConfig:
        """The network that is trained."""

    @property
    @abstractmethod
    def reads_tokenizer(self) -> bool:
        """Whether the objective needs the trained tokenizer."""

    @abstractmethod
    def clip_system(self, tokenizer: Any = None) -> System[Objective]:
        """What is trained, on one clip. tokenizer: the trained one; None: what it brings is fresh."""

    @abstractmethod
    def layout(self, system: System[Objective]) -> Layout:
        """The rows of a call."""

    @abstractmethod
    def told(self, batch: Any, rngs: Sequence[Rng]) -> Any:
        """What the network is told of a batch, for a share of the clips hidden; one Rng per clip."""

    @abstractmethod
    def blank(self, data: Any) -> Any:
        """The same without storage, for a batch of this data."""

    @abstractmethod
    def product(self, tokenizer: Any, net: WorldNet) -> VideoModel:
        """The model that is written."""

    @abstractmethod
    def show(self, product: Any, batch: Any, path: Path) -> None:
        """Write samples of it beside those of a batch to `path`, a name without suffix."""

    def build(self) -> Supervised[Any]:
        """The method."""
        return Supervised(self)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`: the forward pass of the network; of long sequences, its weights alone."""
        return self.replace(start=None).build().dry_run(data)


Its = TypeVar("Its", bound=SupervisedConfig)  # its config


class Supervised(Generic[Its]):
    """`step` is one loss on known latents; `export` writes a model directory, `sample` what it makes."""

    def __init__(self, config: Its) -> None:
        self.config, self.system = config, config.clip_system()
        self.order, self.grid = self.system.order, self.system.grid
        self.layout = config.layout(self.system)
        self.device, self._tokenizer = torch.device("cpu"), None

    @cached_property
    def objective(self) -> Objective:
        """Of the system; with what the trained tokenizer brings, where it needs that."""
        if not self.config.reads_tokenizer:
            return self.system.objective
        return self.config.clip_system(self.tokenizer()).objective

    def tokenizer(self) -> nn.Module:
        """The trained one, read when it is first asked for. Raises VidarError where it is missing or damaged."""
        if self._tokenizer is None:
            self._tokenizer = load_component(self.config.tokenizer).requires_grad_(False).to(self.device)
        return self._tokenizer

    def to(self, device: torch.device) -> None:
        """Say where the tokenizer is needed."""
        self.device = device

    def build_model(self) -> WorldNet:
        """The network, fresh or as `start` has it. Raises UsageError where that is another network."""
        return network(self.config.net, self.config.start)

    def step(self, model: WorldNet, batch: Any, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """Loss on a batch of latents [B, T, n, C], one Rng per clip."""
        seen, target, layout = self.asked(batch.codes, rngs, ranks)
        return self.objective.loss(model(seen, layout, self.config.told(batch, rngs)), target)

    def asked(self, codes: Tensor, rngs: Sequence[Rng], ranks: Ranks) -> tuple[Tensor, Target, Layout]:
        """Codes [B, T, n, C] -> what the network is given [B, S, I], what it should answer, and on which layout."""
        with torch.no_grad():
            seen, target, keep = self.objective.prepare(self.spread(codes), self.layout, rngs)
        return seen, target, self.layout.with_keep(keep)

    def spread(self, codes: Tensor) -> Tensor:
        """Codes of frames [B, T, n, C] -> of the sites of a clip in their order [B, N, C]."""
        return self.system.frames.spread(codes).flatten(1, 2)

    def product(self, model: WorldNet) -> Any:
        """A model of this network and the frozen tokenizer."""
        return self.config.product(self.tokenizer(), model)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a model directory (bfloat16)."""
        save(self.product(model), directory)

    @torch.no_grad()
    def sample(self, model: WorldNet, batch: Any, path: Path) -> None:
        """Write PATH.mp4 or PATH.png: some of the batch, below it what the model makes."""
        self.config.show(self.product(model), batch, path)

    def dry_run(self, data: Any) -> DryRun:
        """See `SupervisedConfig.dry_run`."""
        with torch.device("meta"):
            model = self.build_model()
        slots = self.layout.slots.site.shape[1]
        if slots > MOST_SLOTS:
            return DryRun(model, None)
        inputs = torch.empty(data.batch, slots, self.config.net.backbone.in_width, device="meta")
        told = self.config.blank(data)
        return DryRun(model, lambda: model(inputs, self.layout, told))


def network(config: WorldNetConfig, start: str | None) -> WorldNet:
    """A network, fresh or as the model in directory `start` has it.

    Raises UsageError where that is another network.
    """
    net = config.build()
    if start is not None:
        known = load(start, dtype=torch.float32)
        if known.config.net != config:
            raise UsageError(f"{start}: its network differs from that of the method; start from one of the same size")
        net.load_state_dict(known.net.state_dict())
    return net
