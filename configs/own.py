"""Recipes for your own game: frame size, frame rate and actions are read from the data.

The README of the project leads from a folder of videos to a world. Without data, the recipes assume 64 x 80 pixels,
20 frames/s and one key, so that they can be inspected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vidar.actions import Action, ActionSpec
from vidar.conditioning.compose import ComposeConditionerConfig
from vidar.conditioning.text import ByteEncoderConfig, TextConfig
from vidar.configs.frame_world import SITE, TINY, Game, Size, frame_world, train_frame_tokenizer, train_frame_world
from vidar.configs.recipe import recipe
from vidar.data.annotations import StoredCaptionConfig
from vidar.data.index import INDEX
from vidar.data.reader import data_info
from vidar.model.model import VideoModelConfig
from vidar.nn.mixers import CrossAttentionConfig
from vidar.train.config import TrainConfig
from vidar.types import UsageError

Preset = Literal["small", "tiny"]

TEXT = 64  # width of the features of a caption
NOTHING_YET = Game("own", fps=20.0, height=64, width=80, actions=ActionSpec(actions=(Action(name="key"),)))
SIZES = {
    "small": Size((32, 64, 128), width=192, depth=4, heads=2, head_width=96, channels=64, window=7, clip_frames=12),
    "tiny": TINY,
}


@recipe(status="trainable")
def tokenizer_own(preset: Preset = "small", data: str = "runs/data/own", minutes: float = 15.0) -> TrainConfig:
    """Per-frame convolutional autoencoder for your own game: 8 x 8 pixels to one latent of 8 channels."""
    _game(data)
    return train_frame_tokenizer("tokenizer_own", SIZES[preset], data, minutes)


@recipe(status="trainable")
def world_own(
    preset: Preset = "small",
    data: str = "runs/data/own",
    tokenizer: str = "runs/tokenizer_own/model",
    start: str | None = None,
    batch: int = 2,
    captions: bool = False,
    minutes: float = 60.0,
) -> TrainConfig:
    """Frame-causal flow world for your own game; height and width must be multiples of 16.

    With captions, it also reads the text of each recording, and a prompt in `play` and `generate`. A frame sees the 7
    frames before it. Choice: small batches and a short warm-up, so that some minutes on one core are enough for a
    simple game. Measurements: docs/notes/game-worlds.md.
    """
    size, world = SIZES[preset], frame_world(_game(data), SIZES[preset])
    world = reading_captions(world) if captions else world
    run = train_frame_world("world_own", world, size, data, tokenizer, start, batch, minutes)
    if captions:
        run = run.replace(data=run.data.replace(annotation=StoredCaptionConfig()))
    return run.replace(optim=run.optim.replace(warmup_steps=50))


def reading_captions(world: VideoModelConfig) -> VideoModelConfig:
    """A world that reads a text beside its actions: pooled as modulation, and its bytes by cross-attention."""
    backbone, acts = world.net.backbone, world.net.conditioner
    assert acts is not None
    text = TextConfig(encoder=ByteEncoderConfig(width=TEXT, depth=2), width=backbone.width, memory_width=TEXT)
    net = world.net.replace(
        backbone=backbone.replace(mixers=(*backbone.mixers, CrossAttentionConfig()), memory_width=TEXT),
        conditioner=ComposeConditionerConfig(parts={"acts": acts, "text": text}),
    )
    return world.replace(net=net)


def _game(data: str) -> Game:
    """The game that the data set describes. Raises UsageError if its frame size is not a multiple of a site."""
    if not (Path(data) / INDEX).is_file():
        return NOTHING_YET
    info = data_info(data)
    if info.height % SITE or info.width % SITE:
        height, width = (max(SITE, pixels // SITE * SITE) for pixels in (info.height, info.width))
        raise UsageError(
            f"{data}: the frames have {info.height} x {info.width} pixels, not multiples of {SITE}; record or convert "
            f"again with --height {height} --width {width}"
        )
    return Game("own", info.fps, info.height, info.width, info.spec)
