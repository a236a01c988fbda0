"""Next-frame and next-scale prediction (VideoAR, arXiv 2601.05966) on ViZDoom and on the synthetic world of shapes.

A frame is a pyramid of bits; one call of the network predicts all bits of one scale, and past frames are seen through
their memory units (`vidar/orders/frame_scale.py`). The paper's tokenizer is causal in time (4 frames per latent) and
its model is conditioned on text. Here every frame has a latent of its own, so that it can be conditioned on its own
action. The only size that the paper gives is 4B.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.configs.doom import GAME as DOOM
from vidar.configs.frame_world import Game
from vidar.configs.recipe import recipe
from vidar.data.loader import ClipsConfig
from vidar.data.synthetic import SPEC
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.objectives.hint import PreviousFrameHintConfig
from vidar.objectives.next_scale import NextScaleConfig
from vidar.orders.frame_scale import FrameScaleOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.schedules import Side, still
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.next_scale import TrainScalesConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]

SHAPES = Game("shapes", fps=10.0, height=32, width=32, actions=SPEC)


STRIDE = 8  # pixels along the side of a latent of the autoencoder


class Size(NamedTuple):
    """sides: (h, w) of every scale; gains: size of the codes of every scale; bits: channels of a latent. widths,
    stride, fold: of the autoencoder. The other fields are the network's; window: number of past frames that a
    frame sees.

    Choice: scales that are visited again (as in InfinityStar) instead of finer scales, with codes half as large at
    each visit. Measurements: docs/notes/tokenizers.md.
    """

    sides: tuple[Side, ...]
    gains: tuple[float, ...]
    bits: int
    widths: tuple[int, ...]
    fold: int
    width: int
    depth: int
    heads: int
    window: int
    clip_frames: int


DOOM_SIZES = {
    "demo": Size(
        sides=((1, 1), (2, 2), (4, 5), (4, 5), (4, 5)),
        gains=(0.5, 0.5, 1.0, 0.5, 0.25),
        bits=32,
        widths=(32, 64, 128),
        fold=2,
        width=256,
        depth=6,
        heads=4,
        window=7,
        clip_frames=10,
    ),
    "tiny": Size(((1, 1), (4, 5)), (1.0, 1.0), 16, (8, 8, 8), 2, 32, 2, 2, 3, 5),
}
SHAPES_SIZES = {
    "demo": Size(((1, 1), (2, 2), (4, 4), (4, 4)), (0.5, 0.5, 1.0, 0.5), 16, (16, 32, 64), 1, 128, 4, 4, 7, 10),
    "tiny": Size(((1, 1), (4, 4)), (1.0, 1.0), 4, (8, 8, 8), 1, 32, 2, 2, 3, 5),
}


@recipe(status="measured")
def tokenizer_videoar_doom(
    preset: Preset = "demo", data: str = "runs/data/doom", start: str | None = None, minutes: float = 12.0
) -> TrainConfig:
    """Frame-pyramid tokenizer for ViZDoom: 64 x 80 pixels to 4 x 5 sites of 32 bits, the finest scale thrice.

    start: a `tokenizer_doom` model, whose 8 x 10 latents become the 4 x 5 sites.
    """
    return _tokenizer("tokenizer_videoar_doom", DOOM_SIZES[preset], data, start, minutes)


@recipe(status="measured")
def videoar_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_videoar_doom/model",
    start: str | None = None,
    batch: int = 8,
    minutes: float = 80.0,
) -> TrainConfig:
    """VideoAR on ViZDoom: five calls per frame, 65 sites of 32 bits; a frame sees 7 past frames."""
    return _world("videoar_doom", DOOM, DOOM_SIZES[preset], data, tokenizer, start, batch, minutes)


@recipe(status="measured")
def tokenizer_videoar_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    start: str | None = None,
    height: int = 32,
    width: int = 32,
    minutes: float = 5.0,
) -> TrainConfig:
    """Frame-pyramid tokenizer for the world of shapes: 32 x 32 pixels to at most 4 x 4 sites of 16 bits.

    start: a tokenizer for another height and width, for training by stages.
    """
    return _tokenizer("tokenizer_videoar_shapes", _shapes(preset, height, width), data, start, minutes)


@recipe(status="measured")
def videoar_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    tokenizer: str = "runs/tokenizer_videoar_shapes/model",
    start: str | None = None,
    height: int = 32,
    width: int = 32,
    clip_frames: int | None = None,
    batch: int = 16,
    minutes: float = 10.0,
) -> TrainConfig:
    """VideoAR on the synthetic world of shapes: four calls per frame.

    start: a world of smaller height and width, or of shorter clips, for training by stages; the network is the same.
    """
    size = _shapes(preset, height, width)
    size = size if clip_frames is None else size._replace(clip_frames=clip_frames)
    return _world(
        "videoar_shapes", SHAPES._replace(height=height, width=width), size, data, tokenizer, start, batch, minutes
    )


def _shapes(preset: Preset, height: int, width: int) -> Size:
    """The size of a preset with its finest scales at another resolution."""
    size = SHAPES_SIZES[preset]
    full = (height // STRIDE, width // STRIDE)
    return size._replace(sides=tuple(full if side == size.sides[-1] else side for side in size.sides))


def _pyramids(size: Size) -> PyramidAutoencoderConfig:
    blocks = (1, *(2 for _ in size.widths[1:]))
    return PyramidAutoencoderConfig(
        autoencoder=AutoencoderConfig(
            widths=size.widths,
            num_res_blocks=blocks,
            latent_channels=size.bits // size.fold**2,
            space_stride=STRIDE,
            time_stride=1,
        ),
        pyramid=MultiScaleConfig(quantiser=BSQConfig(channels=size.bits), sizes=still(size.sides), gains=size.gains),
        fold=size.fold,
        scale=size.bits**-0.5,
    )


def _tokenizer(name: str, size: Size, data: str, start: str | None, minutes: float) -> TrainConfig:
    method = AutoencodeConfig(tokenizer=_pyramids(size), start=start, latent_noise=0.0, latent_penalty=0.0)
    return TrainConfig(
        name=name,
        method=method,
        data=ClipsConfig(path=data, clip_frames=1, batch=8),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )


def _world(
    name: str, game: Game, size: Size, data: str, tokenizer: str, start: str | None, batch: int, minutes: float
) -> TrainConfig:
    period = len(size.sides) + 1
    backbone = BackboneConfig(
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        head_width=size.width // size.heads,
        in_width=2 * size.bits + period,
        out_width=2 * size.bits,
        rope=AxialRopeConfig(axes=("s", "t", "y", "x")),
    )
    conditioner = ActionEmbedConfig(spec=game.actions, width=size.width, history=size.window, period=period)
    world = VideoModelConfig(
        **game._asdict(),
        patch=1,
        tokenizer=_pyramids(size),
        order=FrameScaleOrderConfig(sides=size.sides, window=size.window),
        objective=NextScaleConfig(hint=PreviousFrameHintConfig()),
        net=WorldNetConfig(backbone=backbone, conditioner=conditioner),
    )
    return TrainConfig(
        name=name,
        method=TrainScalesConfig(world=world, tokenizer=tokenizer, start=start, clip_frames=size.clip_frames),
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.clip_frames, batch=batch, patch=1),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )
