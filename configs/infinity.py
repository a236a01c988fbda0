"""Infinity (arXiv 2412.04431): text-to-image generation bit by bit and scale by scale, with bitwise self-correction.

`infinity` has the published sizes: 2B and 8B, 1024 pixels, 32 bits per site, thirteen scales of 10,521 sites, text
features of T5-XL. It was not trained here. `infinity_shapes` is the same system on the synthetic world of shapes with
a byte encoder of its own. Data: `vidar record shapes --episodes 500 --out runs/data/shapes`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.conditioning.net import WorldNetConfig
from vidar.conditioning.text import ByteEncoderConfig, EncoderConfig, GivenFeaturesConfig, TextConfig
from vidar.configs.recipe import recipe
from vidar.data.annotations import AnnotationConfig, ShapeCaptionConfig, StoredCaptionConfig
from vidar.data.loader import ClipsConfig
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.block import SharedModulationConfig
from vidar.nn.mixers import CrossAttentionConfig, SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.objectives.pyramids import PyramidsConfig
from vidar.orders.config import OrderConfig
from vidar.orders.scale import ScaleOrderConfig
from vidar.sampling.filters import TemperatureConfig
from vidar.sampling.guidance import GuidanceConfig, GuideConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.schedules import INFINITY_SIDES, Side, square, still
from vidar.train.config import TrainConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.pictures import TrainPicturesConfig
from vidar.train.optim import OptimConfig
from vidar.train.pictures import PictureClipsConfig

Preset = Literal["demo", "tiny"]
Published = Literal["2b", "8b", "tiny"]


class Bits(NamedTuple):
    """A tokenizer that encodes pyramids of bits. widths, space, time: of the autoencoder.

    sides, gains: of the scales.

    Choice: on the world of shapes the finest scale occurs twice, the second time with codes of half the size (see
    videoar.py).
    """

    widths: tuple[int, ...]
    space: Literal[8, 16]
    time: Literal[1, 4]
    bits: int
    sides: tuple[Side, ...]
    gains: tuple[float, ...] | None = None

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.sides[-1][0] * self.space, self.sides[-1][1] * self.space

    def config(self) -> PyramidAutoencoderConfig:
        """The config of the tokenizer."""
        return PyramidAutoencoderConfig(
            autoencoder=AutoencoderConfig(
                widths=self.widths,
                num_res_blocks=(1, *(2 for _ in self.widths[1:])),
                latent_channels=self.bits,
                space_stride=self.space,
                time_stride=self.time,
                time_kernel=3 if self.time > 1 else 1,
            ),
            pyramid=MultiScaleConfig(
                quantiser=BSQConfig(channels=self.bits), sizes=still(self.sides), gains=self.gains
            ),
            scale=self.bits**-0.5,
        )


class Net(NamedTuple):
    """The sizes of the network and of the text encoder; memory: width of the text tokens read by cross-attention."""

    width: int
    depth: int
    heads: int
    memory: int
    text: EncoderConfig
    lr: float = 1e-4  # Choice


SHAPES_BITS = {
    "demo": Bits((16, 32, 64), 8, 1, 16, square((1, 2, 4, 4)), (0.5, 0.5, 1.0, 0.5)),
    "tiny": Bits((8, 8, 8), 8, 1, 4, square((1, 2, 4))),
}
SHAPES_NETS = {
    "demo": Net(128, 4, 4, 128, ByteEncoderConfig(width=64, depth=2, heads=4)),
    "tiny": Net(32, 2, 2, 32, ByteEncoderConfig(width=16, depth=1, heads=1)),
}
T5 = GivenFeaturesConfig(width=2048)
IMAGES = Bits((128, 128, 256, 256, 512), 16, 1, 32, square(INFINITY_SIDES))
SIZES = {
    "2b": (IMAGES, Net(2048, 32, 16, 2048, T5)),
    "8b": (IMAGES, Net(3584, 40, 28, 3584, T5)),
    "tiny": (Bits((8, 8, 8), 8, 1, 4, square((1, 2, 4))), Net(32, 2, 2, 32, GivenFeaturesConfig(width=16), 1e-3)),
}
INFINITY = PyramidsConfig(flip=0.3, balance=0.5, filters=(TemperatureConfig(value=0.5),))


@recipe(status="measured")
def tokenizer_infinity_shapes(
    preset: Preset = "demo", data: str = "runs/data/shapes", minutes: float = 6.0
) -> TrainConfig:
    """Bitwise pyramid tokenizer for images of the world of shapes: 1, 4, 16 and again 16 sites of 16 bits."""
    return train_bits("tokenizer_infinity_shapes", SHAPES_BITS[preset], data, None, minutes, frames=1, batch=16)


@recipe(status="measured")
def infinity_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    tokenizer: str = "runs/tokenizer_infinity_shapes/model",
    start: str | None = None,
    batch: int = 32,
    minutes: float = 20.0,
) -> TrainConfig:
    """Infinity on the world of shapes: an image from its caption in four calls, 16 bits per site."""
    pictures = pictures_of(
        *("infinity_shapes", SHAPES_BITS[preset], SHAPES_NETS[preset], ScaleOrderConfig(), INFINITY),
        guidance=GuidanceConfig(first=2.0, last=2.0),
    )
    train = train_on(pictures, ShapeCaptionConfig(), data, tokenizer, start, batch, lr=1e-3)
    return train.replace(optim=train.optim.replace(steps=100_000, warmup_steps=200), minutes=minutes)


@recipe(status="trainable")
def infinity(
    preset: Published = "2b",
    data: str = "runs/data/images",
    tokenizer: str = "runs/tokenizer_infinity/model",
    start: str | None = None,
    batch: int = 1,
) -> TrainConfig:
    """Infinity at its published sizes: 1024 x 1024 pixels from text features of T5-XL in thirteen calls."""
    bits, net = SIZES[preset]
    guidance = GuidanceConfig(first=4.0, last=4.0)
    pictures = pictures_of("infinity", bits, net, ScaleOrderConfig(), INFINITY, guidance=guidance)
    return train_on(pictures, StoredCaptionConfig(), data, tokenizer, start, batch, net.lr)


def train_bits(
    name: str, bits: Bits, data: str, start: str | None, minutes: float, frames: int, batch: int
) -> TrainConfig:
    """The training run of a tokenizer on clips of `frames` frames."""
    return TrainConfig(
        name=name,
        method=AutoencodeConfig(tokenizer=bits.config(), start=start, latent_noise=0.0, latent_penalty=0.0),
        data=ClipsConfig(path=data, clip_frames=frames, batch=batch),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )


def pictures_of(
    name: str,
    bits: Bits,
    net: Net,
    order: OrderConfig,
    objective: PyramidsConfig,
    guidance: GuideConfig,
    frames: int = 1,
    fps: float = 1.0,
) -> VideoModelConfig:
    """A model of pictures from texts: pooled text as modulation, shared by all blocks, its tokens by cross-attention.

    Choice: a four-axis rotary embedding of scale, time and place instead of each system's own position tables.
    """
    backbone = BackboneConfig(
        width=net.width,
        depth=net.depth,
        heads=net.heads,
        head_width=net.width // net.heads,
        in_width=bits.bits + len(bits.sides) + 3,
        out_width=2 * bits.bits,
        mixers=(SelfAttentionConfig(), CrossAttentionConfig()),
        memory_width=net.memory,
        rope=AxialRopeConfig(axes=("s", "t", "y", "x")),
        modulation=SharedModulationConfig(),
    )
    conditioner = TextConfig(
        encoder=net.text, width=net.width, memory_width=net.memory, heads=max(1, net.text.width // 64)
    )
    height, width = bits.pixels
    return VideoModelConfig(
        name=name,
        fps=fps,
        height=height,
        width=width,
        frames=frames,
        tokenizer=bits.config(),
        order=order,
        objective=objective,
        net=WorldNetConfig(backbone=backbone, conditioner=conditioner),
        guidance=guidance,
    )


def train_on(
    pictures: VideoModelConfig,
    annotation: AnnotationConfig,
    data: str,
    tokenizer: str,
    start: str | None,
    batch: int,
    lr: float,
) -> TrainConfig:
    """The training run, with the optimiser of the papers (Infinity: AdamW, betas 0.9 and 0.97, clipping at 5)."""
    return TrainConfig(
        name=pictures.name,
        method=TrainPicturesConfig(pictures=pictures, tokenizer=tokenizer, start=start),
        data=PictureClipsConfig(
            path=data, tokenizer=tokenizer, annotation=annotation, frames=pictures.frames or 1, batch=batch
        ),
        optim=OptimConfig(lr=lr, steps=500_000, warmup_steps=10_000, betas=(0.9, 0.97), clip=5.0),
        sample_every=1000,
    )
