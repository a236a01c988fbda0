"""InfinityStar (FoundationVision): text-to-video as one image pyramid and one pyramid for every clip after it.

`infinitystar` has the published size: 8B, 480 x 848 pixels (30 x 53 latents), 5 s at 16 frames/s, that is an image
and a clip of 20 latents. It was not trained here. `infinitystar_shapes` is the same system on the world of shapes:
frame 0, then clips of 8 frames, with 4 frames per latent. Its tokenizer can start from that of infinity.py, inflated
to a causal video tokenizer.

Choice: text enters by cross-attention and shared modulation, as in Infinity, while InfinityStar puts text tokens into
the sequence; keys are not grouped; all scales have codes of one width (InfinityStar: 16 bits in coarse and 64 in fine
scales); image and clips visit their scales equally often (InfinityStar visits the last two scales of a clip less
often).
"""

from __future__ import annotations

from typing import Literal

from vidar.conditioning.text import GivenFeaturesConfig
from vidar.configs.infinity import SHAPES_BITS, SHAPES_NETS, T5, Bits, Net, pictures_of, train_bits, train_on
from vidar.configs.recipe import recipe
from vidar.data.annotations import ShapeCaptionConfig, StoredCaptionConfig
from vidar.objectives.pyramids import PyramidsConfig
from vidar.orders.scale import ClipScaleOrderConfig
from vidar.sampling.filters import TemperatureConfig
from vidar.sampling.guidance import GuidanceConfig, ProjectedGuidanceConfig
from vidar.tokenizers.schedules import aspect, square
from vidar.train.config import TrainConfig

Preset = Literal["demo", "tiny"]
Published = Literal["8b", "tiny"]

VISITS = 3  # visits of every scale
STAR = PyramidsConfig(
    flip=0.3,
    balance=0.2,
    heaviest=40.0,
    by_pyramid=((TemperatureConfig(value=1.0),), (TemperatureConfig(value=0.4),)),
)
WIDE = tuple(side for side in aspect(9 / 16, 14) for _ in range(VISITS))
SIZES = {
    "8b": (Bits((96, 192, 384, 384, 384), 16, 4, 64, WIDE), Net(4096, 36, 32, 2048, T5), 20, 81),
    "tiny": (
        Bits((8, 8, 8), 8, 4, 4, square((1, 2, 2, 4))),
        Net(32, 2, 2, 32, GivenFeaturesConfig(width=16), 1e-3),
        *(1, 9),
    ),
}


@recipe(status="measured")
def tokenizer_infinitystar_shapes(
    preset: Preset = "demo", data: str = "runs/data/shapes", start: str | None = None, minutes: float = 20.0
) -> TrainConfig:
    """Causal bitwise pyramid tokenizer for clips of the world of shapes: 4 frames of 8 x 8 pixels to a latent.

    start: a `tokenizer_infinity_shapes` model to inflate.
    """
    bits = SHAPES_BITS[preset]._replace(time=4)
    return train_bits("tokenizer_infinitystar_shapes", bits, data, start, minutes, frames=9, batch=4)


@recipe(status="measured")
def infinitystar_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    tokenizer: str = "runs/tokenizer_infinitystar_shapes/model",
    start: str | None = None,
    batch: int = 8,
    minutes: float = 30.0,
) -> TrainConfig:
    """InfinityStar on the world of shapes: frame 0 and two clips of 8 frames from a caption, four calls each."""
    pictures = pictures_of(
        *("infinitystar_shapes", SHAPES_BITS[preset]._replace(time=4), SHAPES_NETS[preset]),
        *(ClipScaleOrderConfig(clip=2), STAR),
        guidance=GuidanceConfig(first=2.0, last=2.0),
        frames=17,
        fps=10.0,
    )
    train = train_on(pictures, ShapeCaptionConfig(), data, tokenizer, start, batch, lr=1e-3)
    return train.replace(optim=train.optim.replace(steps=100_000, warmup_steps=200), minutes=minutes)


@recipe(status="trainable")
def infinitystar(
    preset: Published = "8b",
    data: str = "runs/data/videos",
    tokenizer: str = "runs/tokenizer_infinitystar/model",
    start: str | None = None,
    batch: int = 1,
) -> TrainConfig:
    """InfinityStar at its published size: 5 s of 480 x 848 pixels from T5-XL text features, 42 visits of 14 scales."""
    bits, net, clip, frames = SIZES[preset]
    order, guidance = ClipScaleOrderConfig(clip=clip), ProjectedGuidanceConfig()
    pictures = pictures_of("infinitystar", bits, net, order, STAR, guidance=guidance, frames=frames, fps=16.0)
    return train_on(pictures, StoredCaptionConfig(), data, tokenizer, start, batch, net.lr)
