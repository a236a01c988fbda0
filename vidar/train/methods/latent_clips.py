"""Base config of the methods that train a world on latent clips: checks, conditions and samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vidar.actions import ActionSpec
from vidar.conditioning.action import Actions
from vidar.conditioning.config import NOTHING, Told, moved
from vidar.conditioning.net import WorldNet, WorldNetConfig
from vidar.core.objective import Objective
from vidar.core.system import System
from vidar.data.annotations import AnnotationConfig
from vidar.data.index import Index
from vidar.data.video import write_video
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.train.checks import check_equal, check_tokenizer
from vidar.train.latents import LatentBatch
from vidar.train.methods.supervised import SupervisedConfig
from vidar.types import UsageError

SHOWN = 4  # number of clips of a sample file


class LearnsWorldConfig(SupervisedConfig):
    """world: config of the model. p_unknown: share of clips whose actions are hidden from the model.

    memory: directory of the trained memory of a world that has one.
    """

    world: VideoModelConfig
    memory: str | None = None
    p_unknown: float = Field(default=0.05, ge=0, le=1)

    @abstractmethod
    def length(self) -> int:
        """Number of frames of a clip."""

    @property
    def net(self) -> WorldNetConfig:
        """See `SupervisedConfig`."""
        return self.world.net

    @property
    def reads_tokenizer(self) -> bool:
        """See `SupervisedConfig`. True for worlds that predict scales, whose targets the tokenizer's pyramid makes."""
        return self.world.by_scales

    def clip_system(self, tokenizer: Any = None) -> System[Objective]:
        """See `SupervisedConfig`."""
        return self.world.system(self.length(), pyramid=None if tokenizer is None else tokenizer.pyramid)

    def told(self, batch: LatentBatch, rngs: Sequence[Rng]) -> Any:
        """See `SupervisedConfig`: actions, and the class or caption if the world reads one; each hidden by itself."""
        hidden = batch.unknown.new_tensor([float(rng.uniform("hidden_actions")) < self.p_unknown for rng in rngs])
        actions = Actions(batch.actions, batch.unknown | hidden[:, None])
        if batch.told is None or self.world.conditioner is None:
            return actions
        heard = [float(rng.uniform("hidden_label")) >= self.p_unknown for rng in rngs]
        told = [annotated(one) if hear else NOTHING for one, hear in zip(batch.told, heard, strict=True)]
        whole = moved(self.world.conditioner.whole(told), batch.actions.device)
        return self.world.conditioner.condition({"actions": actions, **whole})

    def blank(self, data: Any) -> Any:
        """See `SupervisedConfig`."""
        values = torch.empty(data.batch, self.length(), self.world.spec.width, device="meta")
        actions = Actions(values, torch.zeros(values.shape[:2], dtype=torch.bool, device="meta"))
        conditioner = self.world.conditioner
        whole = {} if conditioner is None else conditioner.blank(data.batch, getattr(data, "most", 1))
        return actions if conditioner is None or not whole else conditioner.condition({"actions": actions, **whole})

    def product(self, tokenizer: Any, net: WorldNet) -> VideoModel:
        """See `SupervisedConfig`."""
        return VideoModel(
            self.world, tokenizer, net, memory=None if self.memory is None else load_component(self.memory)
        )

    def show(self, product: VideoModel, batch: LatentBatch, path: Path) -> None:
        """Write PATH.mp4: clips of the data above, generated clips below, with a quarter of each clip as context."""
        codes, actions = self.shown(product, batch.codes[:SHOWN].float()).cpu(), batch.actions[:SHOWN].cpu()
        known = max(1, codes.shape[1] // 4)
        told = None if batch.told is None else [annotated(one) for one in batch.told[:SHOWN]]
        ahead = iter(actions[:, known:].unbind(1))
        made = list(product.codes(codes[:, :known], ahead, actions[:, :known], told=told))
        dreamed = torch.cat([codes[:, :known], torch.stack(made, 1)], 1)
        rows = [stacked(product.decode(part)[0]) for part in (codes, dreamed)]
        write_video(path.with_suffix(".mp4"), torch.cat(rows, 1).numpy(), product.config.fps)

    def shown(self, product: VideoModel, codes: Tensor) -> Tensor:
        """Codes [B, T, n, C] of the data as the world could best reproduce them."""
        return codes

    def check(self, data: Any) -> None:
        """See `vidar.train.checks.Checks`. Checks tokenizer, patch and clip length."""
        check_world(self.world)
        check_memory(self.world, self.memory, data)
        check_equal(data, {"tokenizer": self.tokenizer, "clip_frames": self.length(), "patch": self.world.patch})
        check_annotation(self.world, getattr(data, "annotation", None))

    def check_data(self, data: Any, index: Index | None) -> None:
        """See `vidar.train.checks.ChecksData`. Checks frame size, frame rate, actions and tokenizer."""
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


def annotated(one: int | str) -> Told:
    """A class or a caption as a condition."""
    return Told(label=one) if isinstance(one, int) else Told(prompt=one)


def check_annotation(world: VideoModelConfig, annotation: AnnotationConfig | None) -> None:
    """The data holds the class or caption that the world reads. Raises UsageError otherwise."""
    reads = [name for name in world.accepts if name != "actions"]
    has = [] if annotation is None else ["label" if annotation.classes else "prompt"]
    if reads != has:
        raise UsageError(
            f"the world reads {' and '.join(reads) or 'actions only'}, data.annotation gives "
            f"{' and '.join(has) or 'nothing'}; set data.annotation to what the world reads"
        )


def check_memory(world: VideoModelConfig, folder: str | None, data: Any) -> None:
    """A world with a memory has it in a folder, and its data shows what it would. Raises UsageError otherwise."""
    shows = hasattr(data, "points")
    if (world.memory is None, folder is None, not shows) not in ((True,) * 3, (False,) * 3):
        has = [
            name
            for name, there in (("world.memory", world.memory), ("method.memory", folder), ("views", shows))
            if there
        ]
        raise UsageError(
            "a world with a memory needs world.memory, method.memory and data with views (RememberedClipsConfig); "
            f"there is {' and '.join(has)} only"
        )
    if folder is not None and load_component(folder).config != world.memory:
        raise UsageError(f"{folder}: its memory differs from world.memory; set both to the same")


def stacked(video: Tensor) -> Tensor:
    """Place videos side by side: uint8 [B, T, H, W, 3] -> [T, H, B W, 3]."""
    return torch.cat(list(video), dim=2)


def check_world(world: VideoModelConfig) -> None:
    """Raises UsageError unless sizes, network, objective and actions of the world fit each other."""
    world.system()
    conditioner = world.net.conditioner
    if conditioner is not None and conditioner.action_spec() not in (None, world.spec):
        raise UsageError("net.conditioner.spec differs from the actions of the world; set both to the same")


def columns(spec: ActionSpec) -> list[str]:
    """The parts of an action spec that data and world must agree on: names and ranges in order."""
    return [f"{action.name} {action.lowest:g}..{action.highest:g}" for action in spec.actions]
