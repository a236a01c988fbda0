"""Next-Frame Diffusion (NFD) on Minecraft-like play: 384 x 224 pixels, 336 sites per frame, 32 frames of context.

After "Playing with Transformer at 30+ FPS via Next-Frame Diffusion": full attention within a frame and to all frames
before it, an independent logit-normal level per frame, actions added to the level in adaLN-zero, context noise in
play. The paper names the sizes 130M, 310M and 774M but neither depth nor width. Choice: widths 768, 1024, 1536 with
12, 16, 18 layers. `doom` (doom.py) is a relative of 9 M parameters with convolutions, the previous frame as a hint,
and two copies of each frame in training; NFD has none of these, so that several frames can be generated jointly and
speculatively.

The actions are MineWorld's grouping of the VPT keys into mutually exclusive classes, and two mu-law camera axes.
Data: any shards with these actions at this size.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.actions import Action, ActionSpec
from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.configs.recipe import recipe
from vidar.data.loader import ClipsConfig
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.flow import FlowConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.world import SingleConfig, TrainWorldConfig
from vidar.train.optim import OptimConfig

Preset = Literal["130m", "310m", "774m", "tiny"]

BINS = 11  # bins of a camera axis, as in VPT
ACTIONS = ActionSpec(
    actions=(
        Action(name="hotbar", kind="choice", size=10, keys=("", *"123456789")),
        Action(name="forward_back", kind="choice", size=3, keys=("", "w", "s")),
        Action(name="left_right", kind="choice", size=3, keys=("", "a", "d")),
        Action(name="sprint_sneak", kind="choice", size=3, keys=("", "ctrl", "shift")),
        Action(name="use_attack", kind="choice", size=3, keys=("", "e", "f")),
        Action(name="jump", kind="binary", keys=("space",)),
        Action(name="drop_pick", kind="choice", size=3, keys=("", "q", "r")),
        Action(name="camera_pitch", kind="camera", size=BINS, noop=BINS // 2),
        Action(name="camera_yaw", kind="camera", size=BINS, noop=BINS // 2),
    )
)


class Size(NamedTuple):
    """height, width: pixels. widths, channels: of the tokenizer. dim, depth, heads, head_width: sizes of the network.

    context: frames of a training clip; a frame sees the context - 1 frames before it. steps: solver steps in play.
    lr: learning rate. Choice: all values that the paper does not give.
    """

    height: int
    width: int
    widths: tuple[int, ...]
    channels: int
    dim: int
    depth: int
    heads: int
    head_width: int
    context: int = 32
    steps: int = 16
    lr: float = 2e-4


SIZES = {
    "130m": Size(224, 384, (64, 128, 256, 512), 16, dim=768, depth=12, heads=12, head_width=64),
    "310m": Size(224, 384, (64, 128, 256, 512), 16, dim=1024, depth=16, heads=16, head_width=64),
    "774m": Size(224, 384, (64, 128, 256, 512), 16, dim=1536, depth=18, heads=24, head_width=64),
    "tiny": Size(32, 48, (8, 8, 8, 8), 4, dim=32, depth=2, heads=2, head_width=16, context=4, steps=2, lr=1e-3),
}


def _tokenizer(size: Size) -> AutoencoderConfig:
    blocks = (1, 2, 2, 2)
    return AutoencoderConfig(widths=size.widths, num_res_blocks=blocks, latent_channels=size.channels, space_stride=16)


@recipe(status="trainable")
def tokenizer_nfd(preset: Preset = "130m", data: str = "runs/data/minecraft") -> TrainConfig:
    """Per-frame convolutional autoencoder of NFD: 16 x 16 pixels to one latent of 16 channels."""
    return TrainConfig(
        name="tokenizer_nfd",
        method=AutoencodeConfig(tokenizer=_tokenizer(SIZES[preset])),
        data=ClipsConfig(path=data, clip_frames=1, batch=16),
        optim=OptimConfig(lr=SIZES[preset].lr, steps=200_000, warmup_steps=1000),
        sample_every=5000,
    )


@recipe(status="trainable")
def world_nfd(
    preset: Preset = "130m",
    data: str = "runs/data/minecraft",
    tokenizer: str = "runs/tokenizer_nfd/model",
    start: str | None = None,
    batch: int = 8,
) -> TrainConfig:
    """Next-Frame Diffusion at its published sizes: 336 sites per frame; a frame sees 31 past frames.

    Every frame has its own noise level.
    """
    size = SIZES[preset]
    net = WorldNetConfig(
        backbone=BackboneConfig(
            width=size.dim,
            depth=size.depth,
            heads=size.heads,
            head_width=size.head_width,
            in_width=size.channels + 1,
            out_width=size.channels,
            level=LevelConfig(),
        ),
        conditioner=ActionEmbedConfig(spec=ACTIONS, width=size.dim),
    )
    world = VideoModelConfig(
        name="nfd",
        fps=20.0,
        height=size.height,
        width=size.width,
        patch=1,
        context=size.context,
        actions=ACTIONS,
        tokenizer=_tokenizer(size),
        order=FrameOrderConfig(window=size.context - 1),
        objective=FlowConfig(steps=size.steps, context=ContextNoiseConfig(most=0.1, level=0.05)),
        net=net,
    )
    return TrainConfig(
        name="world_nfd",
        method=TrainWorldConfig(
            world=world, tokenizer=tokenizer, start=start, stream=SingleConfig(), clip_frames=size.context
        ),
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.context, batch=batch, patch=1),
        optim=OptimConfig(lr=size.lr, steps=300_000, warmup_steps=2000),
        compile=True,
        sample_every=5000,
    )
