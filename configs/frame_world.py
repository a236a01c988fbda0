"""Shared parts of the game-world recipes: a tokenizer and a frame-causal flow world (after Next-Frame Diffusion).

The previous committed frame is concatenated as input channels, and the network predicts the difference from it. The
recipes reproduce no paper and are sized for two CPU cores. Choice: teacher forcing (every frame of a clip occurs
twice: clean, as context for later frames, and noisy, as the target) instead of diffusion forcing (every frame occurs
once with its own level). Diffusion forcing costs half as much, but the context frames are then hardly ever all clean,
as they always are in play.
"""

from __future__ import annotations

from typing import NamedTuple

from vidar.actions import ActionSpec
from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.data.loader import ClipsConfig
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.convolution import ConvEmbedConfig, ConvHeadConfig
from vidar.nn.embed import LevelConfig
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import PreviousHintConfig
from vidar.objectives.prediction import DataConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.dreamed import DreamedClipsConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.world import OwnContextConfig, TrainWorldConfig, TwinConfig
from vidar.train.optim import OptimConfig

PATCH, CHANNELS, STRIDE = 2, 8, 8
SITE = PATCH * STRIDE  # pixels along the side of a site


class Game(NamedTuple):
    """The fixed properties of a game: name, frames per second, frame size in pixels and actions."""

    name: str
    fps: float
    height: int
    width: int
    actions: ActionSpec


class Size(NamedTuple):
    """tokenizer: its widths. width .. head_width: sizes of the network; channels: channels of its convolutions.
    window: number of past frames that a frame sees. clip_frames: frames of a training clip. steps: solver steps in
    play.
    """

    tokenizer: tuple[int, ...]
    width: int
    depth: int
    heads: int
    head_width: int
    channels: int
    window: int
    clip_frames: int
    steps: int = 3


TINY = Size((8, 8, 8), width=32, depth=2, heads=2, head_width=16, channels=8, window=3, clip_frames=5, steps=2)


def frame_tokenizer(size: Size) -> AutoencoderConfig:
    """A tokenizer that encodes 8 x 8 pixels as one latent of 8 channels, frame by frame."""
    return AutoencoderConfig(widths=size.tokenizer, latent_channels=CHANNELS, space_stride=STRIDE, time_stride=1)


def frame_world(game: Game, size: Size) -> VideoModelConfig:
    """The world; its frames have height x width / 256 sites."""
    rows, columns = game.height // SITE, game.width // SITE
    backbone = BackboneConfig(
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        head_width=size.head_width,
        in_width=2 * CHANNELS * PATCH**2 + 1,
        out_width=CHANNELS * PATCH**2,
        level=LevelConfig(),
        embed=ConvEmbedConfig(rows=rows, columns=columns, channels=size.channels),
        head=ConvHeadConfig(rows=rows, columns=columns, channels=size.channels),
    )
    objective = FlowConfig(
        steps=size.steps,
        shift=3.0,
        mean=0.5,
        std=1.5,
        hint=PreviousHintConfig(),
        prediction=DataConfig(),
        given=1,
        context=ContextNoiseConfig(most=0.2, level=0.03),
    )
    conditioner = ActionEmbedConfig(spec=game.actions, width=size.width, history=size.window)
    return VideoModelConfig(
        **game._asdict(),
        patch=PATCH,
        tokenizer=frame_tokenizer(size),
        order=FrameOrderConfig(window=size.window),
        objective=objective,
        net=WorldNetConfig(backbone=backbone, conditioner=conditioner),
    )


def train_frame_tokenizer(name: str, size: Size, data: str, minutes: float) -> TrainConfig:
    """The training run of the tokenizer.

    Choice: latent noise of a third of the latents' standard deviation, so that the latents hold less detail that no
    world model can predict. Measurements: docs/notes/tokenizers.md.
    """
    return TrainConfig(
        name=name,
        method=AutoencodeConfig(tokenizer=frame_tokenizer(size), latent_noise=0.5, latent_penalty=3e-3),
        data=ClipsConfig(path=data, clip_frames=1, batch=6),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )


def train_frame_world(
    name: str,
    world: VideoModelConfig,
    size: Size,
    data: str,
    tokenizer: str,
    start: str | None,
    batch: int,
    minutes: float,
    dreams: str | None = None,
) -> TrainConfig:
    """The training run of the world on pre-encoded latents; half of the batches use self-generated frames as context.

    dreams: a world whose dreams are the context of half of the clips; None: no dreams. Choice: up to four generations
    of self-generated context. Measurements: docs/notes/game-worlds.md.
    """
    clips = LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.clip_frames, batch=batch, patch=PATCH)
    return TrainConfig(
        name=name,
        method=TrainWorldConfig(
            world=world,
            tokenizer=tokenizer,
            start=start,
            stream=TwinConfig(),
            clip_frames=size.clip_frames,
            own_context=OwnContextConfig(most=1.0, generations=4),
        ),
        data=clips if dreams is None else DreamedClipsConfig(world=dreams, **dict(clips)),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        compile=True,
        minutes=minutes,
        sample_every=1000,
    )
