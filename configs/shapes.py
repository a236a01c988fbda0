"""Recipes on the synthetic world of shapes (32 x 32 pixels, 10 frames/s): tokenizer and world.

They reproduce no paper: they are the recipes of doom.py on a world whose full state is known. Data: `vidar record
shapes --episodes 500 --out runs/data/shapes`.
"""

from __future__ import annotations

from typing import Literal

from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.configs.recipe import recipe
from vidar.data.loader import ClipsConfig
from vidar.data.synthetic import SPEC
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import PreviousHintConfig
from vidar.objectives.prediction import DataConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.world import SingleConfig, TrainWorldConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]

CHANNELS = 8
# preset: tokenizer widths; width, depth, heads, head width of the network
TOKENIZERS = {"demo": (16, 32, 64), "tiny": (8, 8, 8)}
NETWORKS = {"demo": (128, 4, 4, 32), "tiny": (32, 2, 2, 16)}
CLIPS = {"demo": (16, 8), "tiny": (4, 2)}  # frames of a clip, solver steps


def _tokenizer(preset: Preset) -> AutoencoderConfig:
    return AutoencoderConfig(widths=TOKENIZERS[preset], latent_channels=CHANNELS, space_stride=8, time_stride=1)


@recipe(status="measured")
def tokenizer_shapes(preset: Preset = "demo", data: str = "runs/data/shapes", minutes: float = 5.0) -> TrainConfig:
    """Per-frame convolutional autoencoder: 32 x 32 pixels to 4 x 4 latents of 8 channels."""
    return TrainConfig(
        name="tokenizer_shapes",
        method=AutoencodeConfig(tokenizer=_tokenizer(preset)),
        data=ClipsConfig(path=data, clip_frames=2, batch=16, stride=2),
        optim=OptimConfig(lr=2e-3, steps=10_000, warmup_steps=100),
        minutes=minutes,
        sample_every=1000,
    )


@recipe(status="measured")
def world_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    tokenizer: str = "runs/tokenizer_shapes/model",
    height: int = 32,
    width: int = 32,
    batch: int = 8,
    minutes: float = 10.0,
) -> TrainConfig:
    """Frame-causal flow world on the synthetic world of shapes: 16 sites per frame; a frame sees 15 past frames.

    Diffusion forcing: every frame of a clip occurs once, with its own noise level.
    """
    frames, steps = CLIPS[preset]
    net_width, depth, heads, head_width = NETWORKS[preset]
    net = WorldNetConfig(
        backbone=BackboneConfig(
            width=net_width,
            depth=depth,
            heads=heads,
            head_width=head_width,
            in_width=2 * CHANNELS + 1,
            out_width=CHANNELS,
            level=LevelConfig(),
        ),
        conditioner=ActionEmbedConfig(spec=SPEC, width=net_width),
    )
    world = VideoModelConfig(
        name="shapes",
        fps=10.0,
        height=height,
        width=width,
        patch=1,
        actions=SPEC,
        tokenizer=_tokenizer(preset),
        order=FrameOrderConfig(window=frames - 1),
        objective=FlowConfig(steps=steps, hint=PreviousHintConfig(), prediction=DataConfig(), p_context=0.3),
        net=net,
    )
    return TrainConfig(
        name="world_shapes",
        method=TrainWorldConfig(world=world, tokenizer=tokenizer, stream=SingleConfig(), clip_frames=frames),
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=frames, batch=batch, patch=1),
        optim=OptimConfig(lr=1e-3, steps=50_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )
