"""Recipes on ViZDoom (`my_way_home`, 64 x 80 pixels, 17.5 frames/s): tokenizer, world, and the world's decoder.

Commands, minutes and figures: README.md in this folder. Students of this world: students.py.
"""

from __future__ import annotations

from typing import Literal

from vidar.actions import Action, ActionSpec
from vidar.configs.frame_world import (
    TINY,
    Game,
    Size,
    frame_tokenizer,
    frame_world,
    train_frame_tokenizer,
    train_frame_world,
)
from vidar.configs.recipe import recipe
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.train.config import TrainConfig
from vidar.train.dreams import DreamClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.decode import DecodeConfig
from vidar.train.optim import OptimConfig

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
GAME = Game("doom", fps=17.5, height=64, width=80, actions=ACTIONS)
SIZES = {
    "demo": Size(
        (32, 64, 128), width=256, depth=6, heads=2, head_width=128, channels=96, window=7, clip_frames=12, steps=2
    ),
    "tiny": TINY,
}


@recipe(status="shipped")
def tokenizer_doom(preset: Preset = "demo", data: str = "runs/data/doom", minutes: float = 22.0) -> TrainConfig:
    """Per-frame convolutional autoencoder: 64 x 80 pixels to 8 x 10 latents of 8 channels."""
    return train_frame_tokenizer("tokenizer_doom", SIZES[preset], data, minutes)


@recipe(status="shipped")
def world_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    dreams: str | None = None,
    batch: int = 6,
    minutes: float = 110.0,
) -> TrainConfig:
    """Frame-causal flow world on ViZDoom: 20 sites per frame; a frame sees 7 past frames.

    dreams: a world whose dreams of the data half of the clips continue, so that the new one returns from them.

    Choice: two solver steps, because the world learns guidance by its actions at the end of training
    (`method.guidance=1.5`, 17 minutes). Measurements: docs/notes/game-worlds.md.
    """
    size = SIZES[preset]
    world = frame_world(GAME, size)
    return train_frame_world("world_doom", world, size, data, tokenizer, start, batch, minutes, dreams)


@recipe(status="shipped")
def decoder_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    world: str = "runs/world_doom/model",
    minutes: float = 40.0,
) -> TrainConfig:
    """Fine-tunes a world's decoder on frames that the world generated; latents and world stay fixed.

    Squared error alone reproduces a fifth of the game's sharpness (Laplacian variance), and less on generated frames.
    Choice: the texture loss matches the mean amount of detail (power 2). Measurements: docs/notes/tokenizers.md.
    """
    width = 8 if preset == "tiny" else 32
    adversary = DiscriminatorConfig(width=width, weight=0.5, adaptive=True, start=500, warmup=500, detail=1.0)
    losses = AutoencodeConfig(
        tokenizer=frame_tokenizer(SIZES[preset]),
        latent_penalty=0.0,
        latent_noise=0.2,
        texture=150.0,
        texture_power=2.0,
        gan=adversary,
    )
    return TrainConfig(
        name="decoder_doom",
        method=DecodeConfig(world=world, losses=losses),
        data=DreamClipsConfig(path=data, world=world),
        optim=OptimConfig(lr=6e-4, steps=100_000, warmup_steps=100, betas=(0.5, 0.95)),
        minutes=minutes,
        sample_every=500,
    )
