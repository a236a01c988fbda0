"""Frames of a data set, each with the latent that a world generated for it: the input of a decoder in play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.data.loader import ClipsConfig
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.tokenizers.patch import from_sites
from vidar.types import VidarError


@dataclass(frozen=True)
class DreamBatch:
    """video uint8 [B, 1, H, W, 3]; latents float32 [B, C, 1, h, w], normalised; number long [B]; names."""

    video: Tensor
    latents: Tensor
    number: Tensor
    names: Sequence[str]


class DreamClipsConfig(Config):
    """Clips of shards at `path`, generated anew by the world in directory `world` under their recorded actions.

    clips: number of clips. context: number of real frames that the world sees first. frames: number of generated frames
    after them. share: share of samples with the generated latent; the others have the encoder's latent, so that the
    decoder also stays trained on real frames. Choice: 4 frames, because a dream that has left the recording no longer
    shows its frames.
    """

    path: str
    world: str
    split: str = "train"
    clips: int = Field(default=3072, ge=1)
    context: int = Field(default=8, ge=1)
    frames: int = Field(default=4, ge=1)
    share: float = Field(default=0.6, ge=0, le=1)
    batch: int = Field(default=16, ge=1)
    seed: int = 0

    def build(self) -> DreamClips:
        """Generate every clip. Raises VidarError if data or world are missing or do not fit each other."""
        return DreamClips(self)


class DreamClips:
    """`batch(index)` is a pure function of the index; an epoch has every frame of every clip once, in a new order.

    frames: uint8 [N, H, W, 3]. latents: float32 [2, N, C, h, w], those of the encoder, then those of the world.
    """

    def __init__(self, config: DreamClipsConfig):
        self.config = config
        world = load(config.world)
        count = config.context + config.frames
        clips = ClipsConfig(
            path=config.path,
            split=config.split,
            clip_frames=count,
            batch=32,
            stride=count,
            seed=config.seed,
            prefetch=0,
        ).build()
        _check(config, world, clips.spec)
        frames: list[Tensor] = []
        latents: list[Tensor] = []
        self.names: list[str] = []
        for index in range(-(-config.clips // 32)):
            clip = clips.batch(index)
            frames.append(clip.video[:, config.context :].flatten(0, 1))
            latents.append(dreamed(world, clip.video, clip.actions, config.context, clip.number.tolist(), config.seed))
            self.names += [f"{name}+{config.context + t}" for name in clip.names for t in range(config.frames)]
        self.frames, self.latents = torch.cat(frames), torch.cat(latents, 1)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def batch(self, index: int) -> DreamBatch:
        """Running batch `index`, from 0."""
        size, count = self.config.batch, len(self.frames)
        numbers = torch.arange(index * size, (index + 1) * size)
        places, kinds = [], []
        for number in numbers.tolist():
            epoch, place = divmod(number, count)
            if self._order[0] != epoch:
                self._order = (epoch, Rng(self.config.seed).permutation("shuffle", count, epoch))
            places.append(int(self._order[1][place]))
            kinds.append(int(float(Rng(self.config.seed, number).uniform("dreamed_share")) < self.config.share))
        latents = self.latents[kinds, places][:, :, None]
        return DreamBatch(self.frames[places][:, None], latents, numbers, [self.names[p] for p in places])


@torch.inference_mode()
def dreamed(world: VideoModel, video: Tensor, actions: Tensor, context: int, numbers: list[int], seed: int) -> Tensor:
    """Clips uint8 [B, T, H, W, 3], actions [B, T, A] -> latents [2, B (T - context), C, h, w] of the frames after
    the context: those of the encoder, then those that the world generates. The noise is keyed by the clip's number.
    """
    codes = world.encode(video)
    rngs = [Rng(seed, number) for number in numbers]
    ahead = (action for action in actions[:, context:].unbind(1))
    made = world.codes(codes[:, :context], ahead, actions[:, :context], rngs)
    made = torch.stack(list(islice(made, video.shape[1] - context)), 1)
    return torch.stack([_latents(world, part) for part in (codes[:, context:], made)])


def _latents(world: VideoModel, codes: Tensor) -> Tensor:
    """[B, T, n, C p p] -> [B T, C, h, w]."""
    config = world.config
    stride = config.tokenizer.strides[1]
    shape = (1, config.height // stride, config.width // stride)
    return from_sites(codes.flatten(0, 1), shape, config.patch)[:, :, 0].float()


def _check(config: DreamClipsConfig, world: VideoModel, spec: object) -> None:
    if spec != world.config.actions:
        raise VidarError(
            f"{config.path}: its actions differ from those of world {config.world}; use data of the world's game"
        )
