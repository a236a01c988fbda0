"""Recipes on ViZDoom (`my_way_home`, 64 x 80, 17.5 frames/s): tokenizer and world.

Reproduces no paper: a frame-causal flow world in the manner of Next-Frame Diffusion, sized for two CPU cores.
Commands, minutes and figures: README.md beside this file.
"""

from __future__ import annotations

from typing import Literal

from vidar.actions import Action, ActionSpec
from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.data.loader import ClipsConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.convolution import ConvEmbedConfig, ConvHeadConfig
from vidar.nn.embed import LevelConfig
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import PreviousHintConfig
from vidar.objectives.prediction import DataConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.train.fit import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.world import OwnContextConfig, SingleConfig, TrainWorldConfig
from vidar.train.optim import OptimConfig
from vidar.world.world import WorldConfig

Preset = Literal["demo", "tiny"]

ACTIONS = ActionSpec(
    actions=(
        Action(name="TURN_LEFT", keys=("ArrowLeft",)),
        Action(name="TURN_RIGHT", keys=("ArrowRight",)),
        Action(name="MOVE_FORWARD", keys=("ArrowUp", "w")),
        Action(name="MOVE_LEFT", keys=("a",)),
        Action(name="MOVE_RIGHT", keys=("d",)),
    )
)
# preset: tokenizer widths; width, depth, heads, head width of the network, channels of its convolutions; frames of a
# clip, solver steps
TOKENIZERS = {"demo": (32, 64, 128), "tiny": (8, 8, 8)}
NETWORKS = {"demo": (192, 5, 3, 64, 64), "tiny": (32, 2, 2, 16, 8)}
CLIPS = {"demo": (8, 2), "tiny": (4, 2)}


def _tokenizer(preset: Preset) -> AutoencoderConfig:
    return AutoencoderConfig(widths=TOKENIZERS[preset], latent_channels=8, space_stride=8, time_stride=1)


def tokenizer_doom(preset: Preset = "demo", data: str = "runs/data/doom", minutes: float = 17.0) -> TrainConfig:
    """Per-frame convolutional autoencoder: 64 x 80 pixels to 8 x 10 latents of 8 channels."""
    return TrainConfig(
        name="tokenizer_doom",
        method=AutoencodeConfig(tokenizer=_tokenizer(preset)),
        data=ClipsConfig(path=data, clip_frames=1, batch=6),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )


def decoder_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    minutes: float = 25.0,
) -> TrainConfig:
    """The decoder of `tokenizer_doom` taught texture by an adversary; the encoder, and so the latents, stay.

    Squared error alone gives back a fifth of the sharpness of the game (Laplacian variance). Latents come with noise of
    about a fifth of their deviation, because in play they come from a world.
    """
    width = 8 if preset == "tiny" else 32
    adversary = DiscriminatorConfig(width=width, weight=0.3, adaptive=True, start=300, warmup=300, detail=2.0)
    return TrainConfig(
        name="decoder_doom",
        method=AutoencodeConfig(
            tokenizer=_tokenizer(preset),
            start=tokenizer,
            decoder_only=True,
            latent_noise=0.4,
            texture=0.5,
            gan=adversary,
        ),
        data=ClipsConfig(path=data, clip_frames=1, batch=6),
        optim=OptimConfig(lr=5e-4, steps=100_000, warmup_steps=100, betas=(0.5, 0.95)),
        minutes=minutes,
        sample_every=500,
    )


def _network(preset: Preset) -> WorldNetConfig:
    width, depth, heads, head_width, channels = NETWORKS[preset]
    return WorldNetConfig(
        backbone=BackboneConfig(
            width=width,
            depth=depth,
            heads=heads,
            head_width=head_width,
            in_width=65,
            out_width=32,
            level=LevelConfig(),
            embed=ConvEmbedConfig(rows=4, columns=5, channels=channels),
            head=ConvHeadConfig(rows=4, columns=5, channels=channels),
        ),
        conditioner=ActionEmbedConfig(spec=ACTIONS, width=width, history=CLIPS[preset][0] - 1),
    )


def world_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    batch: int = 6,
    minutes: float = 90.0,
) -> TrainConfig:
    """Frame-causal flow world on 20 sites a frame; a frame sees the 7 before it.

    Diffusion forcing: every frame of a clip stands once, with its own level. The frame before, as committed, comes
    along as channels, and what is predicted is the difference from it.
    """
    frames, steps = CLIPS[preset]
    net = _network(preset)
    world = WorldConfig(
        name="doom",
        fps=17.5,
        height=64,
        width=80,
        actions=ACTIONS,
        tokenizer=_tokenizer(preset),
        order=FrameOrderConfig(window=frames - 1),
        objective=FlowConfig(
            steps=steps,
            mean=1.0,
            std=1.5,
            hint=PreviousHintConfig(),
            prediction=DataConfig(),
            p_context=0.15,
            given=1,
            context=ContextNoiseConfig(most=0.2, level=0.03),
        ),
        net=net,
    )
    return TrainConfig(
        name="world_doom",
        method=TrainWorldConfig(
            world=world,
            tokenizer=tokenizer,
            stream=SingleConfig(),
            clip_frames=frames,
            own_context=OwnContextConfig(),
        ),
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=frames, batch=batch),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        compile=True,
        minutes=minutes,
        sample_every=1000,
    )
