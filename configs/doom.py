"""Recipes on ViZDoom (`my_way_home`, 64 x 80, 17.5 frames/s): tokenizer, world, the decoder of that world.

Commands, minutes and figures: README.md beside this file. Its students: students.py.
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
    batch: int = 6,
    minutes: float = 110.0,
) -> TrainConfig:
    """Frame-causal flow world on 20 sites a frame; a frame sees the 7 before it.

    Choice: two solver steps, for a world that learns guidance by its actions in the end (`method.guidance=1.5`, 17
    minutes from the plain one). On 48 games the plain world was, with three steps and with two, 2.41 and 2.43 dB over
    copy-last, 2.05 and 2.17 over shuffled actions, its keys were read back as well as 0.85 and 0.84 of the game's; the
    other one 2.37 and 2.38, 2.00 and 2.36, 0.89 and 0.91.
    """
    size = SIZES[preset]
    return train_frame_world("world_doom", frame_world(GAME, size), size, data, tokenizer, start, batch, minutes)


@recipe(status="shipped")
def decoder_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    world: str = "runs/world_doom/model",
    minutes: float = 40.0,
) -> TrainConfig:
    """The decoder of the world taught to paint what the world dreams, texture too; latents and world stay.

    Squared error alone gives back a fifth of the sharpness of the game (Laplacian variance), and less from dreams.
    Choice: the texture term asks for the mean amount of detail (power 2). On 48 games, from one decoder, 8 minutes of
    weight 150 at power 2 took sharpness from 0.53 to 0.60 of the game's for 0.07 dB, weight 24 at power 1 to 0.56 for
    0.08 dB; 8 more minutes at 400 gave 0.64 for another 0.11 dB, at 800 0.63 for 0.16 dB.
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
