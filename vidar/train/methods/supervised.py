"""Supervised training on known latents: the rows of a clip, its conditions, and the loss of its objective.

    units of a clip      0 1 2 3
    rows of the call     m0 m1 m2 q1 q2 q3      clean (m) and noisy (q) rows, chosen by the config
    outputs                       a1 a2 a3      compared with the targets of the objective

This module does not depend on the kind of latents, or on what the objective predicts.
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

MOST_SLOTS = 16_384  # maximum sequence length of a dry run, because the visibility table has the square of it


class SupervisedConfig(Config):
    """Base of the configs of supervised methods, which differ in rows, conditions, product and samples.

    tokenizer: directory of the trained tokenizer. start: directory of a model whose network is trained further, or
    None.
    """

    tokenizer: str
    start: str | None = None

    @property
    @abstractmethod
    def net(self) -> WorldNetConfig:
        """The config of the network that is trained."""

    @property
    @abstractmethod
    def reads_tokenizer(self) -> bool:
        """Whether the objective needs the trained tokenizer."""

    @abstractmethod
    def clip_system(self, tokenizer: Any = None) -> System[Objective]:
        """The System of one clip. tokenizer: the trained tokenizer; None: its pyramid has fresh weights."""

    @abstractmethod
    def layout(self, system: System[Objective]) -> Layout:
        """The layout of a training call."""

    @abstractmethod
    def told(self, batch: Any, rngs: Sequence[Rng]) -> Any:
        """The conditions of a batch, hidden for a share of the clips; one Rng per clip."""

    @abstractmethod
    def blank(self, data: Any) -> Any:
        """The conditions of a batch of this data on the device "meta"."""

    @abstractmethod
    def product(self, tokenizer: Any, net: WorldNet) -> VideoModel:
        """The model that is exported."""

    @abstractmethod
    def show(self, product: Any, batch: Any, path: Path) -> None:
        """Write samples of the model beside those of a batch to `path`, a name without suffix."""

    def build(self) -> Supervised[Any]:
        """The method."""
        return Supervised(self)

    def dry_run(self, data: Any) -> DryRun:
        """See `vidar.train.checks.DryRuns`. Runs the network's forward pass; for long sequences, only its weights."""
        return self.replace(start=None).build().dry_run(data)


Its = TypeVar("Its", bound=SupervisedConfig)  # the config of a method


class Supervised(Generic[Its]):
    """The method: `step` computes the loss on known latents, `export` writes a model directory, `sample` samples."""

    def __init__(self, config: Its) -> None:
        self.config, self.system = config, config.clip_system()
        self.order, self.grid = self.system.order, self.system.grid
        self.layout = config.layout(self.system)
        self.device, self._tokenizer = torch.device("cpu"), None

    @cached_property
    def objective(self) -> Objective:
        """The objective of the System, with the trained tokenizer's pyramid if it needs one."""
        if not self.config.reads_tokenizer:
            return self.system.objective
        return self.config.clip_system(self.tokenizer()).objective

    def tokenizer(self) -> nn.Module:
        """The trained tokenizer, read on first use. Raises VidarError if it is missing or damaged."""
        if self._tokenizer is None:
            self._tokenizer = load_component(self.config.tokenizer).requires_grad_(False).to(self.device)
        return self._tokenizer

    def to(self, device: torch.device) -> None:
        """Set the device of the tokenizer, which is loaded on first use."""
        self.device = device

    @property
    def origin(self) -> str | None:
        """See `vidar.train.fit.Continues`."""
        return self.config.start

    def build_model(self) -> WorldNet:
        """The network, fresh or with the weights of `start`. Raises UsageError if that network differs."""
        return network(self.config.net, self.config.start)

    def step(self, model: WorldNet, batch: Any, rngs: Sequence[Rng], ranks: Ranks = ALONE) -> Loss:
        """The loss on a batch of latents [B, T, n, C], with one Rng per clip."""
        seen, target, layout = self.asked(batch.codes, rngs, ranks)
        return self.objective.loss(model(seen, layout, self.config.told(batch, rngs)), target)

    def asked(self, codes: Tensor, rngs: Sequence[Rng], ranks: Ranks) -> tuple[Tensor, Target, Layout]:
        """Codes [B, T, n, C] -> network inputs [B, S, I], the target, and the layout."""
        with torch.no_grad():
            seen, target, keep = self.objective.prepare(self.spread(codes), self.layout, rngs)
        return seen, target, self.layout.with_keep(keep)

    def spread(self, codes: Tensor) -> Tensor:
        """Codes of frames [B, T, n, C] -> codes of all sites of a clip in site order [B, N, C]."""
        return self.system.frames.spread(codes).flatten(1, 2)

    def product(self, model: WorldNet) -> Any:
        """A model from this network and the frozen tokenizer."""
        return self.config.product(self.tokenizer(), model)

    def export(self, model: WorldNet, directory: Path) -> None:
        """Write tokenizer and network as a model directory (bfloat16)."""
        save(self.product(model), directory)

    @torch.no_grad()
    def sample(self, model: WorldNet, batch: Any, path: Path) -> None:
        """Write PATH.mp4 or PATH.png: a part of the batch above, samples of the model below."""
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
    """A network, fresh or with the weights of the model in directory `start`.

    Raises UsageError if the network of that model differs.
    """
    net = config.build()
    if start is not None:
        known = load(start, dtype=torch.float32)
        if known.config.net != config:
            raise UsageError(f"{start}: its network differs from that of the method; start from one of the same size")
        net.load_state_dict(known.net.state_dict())
    return net
