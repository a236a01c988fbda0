"""What the recipes of worlds of games share: a tokenizer and a frame-causal flow world (after Next-Frame Diffusion).

The frame before, as committed, comes along as channels, and what is predicted is the difference from it. Reproduces no
paper; sized for two CPU cores. Teacher forcing: every frame of a clip stands twice, as what later frames see and as
what is asked. Choice: not diffusion forcing, where a frame stands once with its own level; it is half the work, but all
frames before one are hardly ever clean together, and in play they always are.
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
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.world import OwnContextConfig, TrainWorldConfig, TwinConfig
from vidar.train.optim import OptimConfig

PATCH, CHANNELS, STRIDE = 2, 8, 8
SITE = PATCH * STRIDE  # pixels along the side of a site


class Game(NamedTuple):
    """What is known of a game: its name, frames per second, pixels and actions."""

    name: str
    fps: float
    height: int
    width: int
    actions: ActionSpec


class Size(NamedTuple):
    """tokenizer: its widths. width .. head_width: of the network; channels: of its convolutions. window: frames a frame
    sees before it. clip_frames: frames of a training clip. steps: of the solver in play.
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
    """8 x 8 pixels to one latent of 8 channels, frame by frame."""
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
    """Its tokenizer's training.

    Choice: much noise on the latents, a third of their deviation; they hold less of what no world can foresee. After
    six minutes of training each (one run), a world on them was 1.16 dB over copy-last on frames 1-16, on latents with a
    twentieth of noise 0.82, on those with a texture term too 0.55. Grain is the decoder's work. It does not replace
    training: after 11,500 steps of 6 clips a world on them was 2.51 dB over copy-last, 1.70 over shuffled actions; the
    one that ships, on latents with little noise and after 83,000 clips of explored play alone, 2.99 and 2.20.
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
) -> TrainConfig:
    """Its training, on latents that are encoded once; half of the batches see their own answers as context.

    Choice: up to four generations of answers. 28 minutes of it (3,156 steps from the shipped `doom`, on six games of
    600 frames) took frames out of the real range from 24 to 11 % in contrast, 28 to 12 in sharpness, 30 to 26 in
    brightness, and motion from 0.41 to 0.50 of the real game's; how much of that is the longer training was not
    measured apart. Over copy-last 2.99 dB became 3.07, over shuffled actions 2.20 became 2.30.
    """
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
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.clip_frames, batch=batch, patch=PATCH),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        compile=True,
        minutes=minutes,
        sample_every=1000,
    )
