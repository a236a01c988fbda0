"""Visual autoregressive modelling (VAR, arXiv 2404.02905): class-conditional images, generated scale by scale.

`var` has the published sizes d16 to d30 on ImageNet at 256 pixels: depth d, width 64 d, d heads, ten scales of 680
sites, 4096 codes. It was not trained here. `var_shapes` is the same system on the world of shapes with 28 classes,
the colour and kind of shape 1. Data: `vidar record shapes --episodes 500 --out runs/data/shapes`.

Choice: position and scale enter by a four-axis rotary embedding, coordinates and a one-hot scale, where VAR has
learned tables; the class enters by modulation alone, where VAR also uses it as the start token of scale 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.conditioning.label import LabelEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.configs.recipe import recipe
from vidar.data.annotations import SHAPE_CLASSES, AnnotationConfig, ShapeClassConfig, StoredClassConfig
from vidar.data.loader import ClipsConfig
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.objectives.pyramids import PyramidsConfig
from vidar.orders.scale import ScaleOrderConfig
from vidar.sampling.filters import TopKConfig, TopPConfig
from vidar.sampling.guidance import GuidanceConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.schedules import VAR_SIDES, square, still
from vidar.tokenizers.vq import VQConfig
from vidar.train.config import TrainConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.pictures import TrainPicturesConfig
from vidar.train.optim import OptimConfig
from vidar.train.pictures import PictureClipsConfig

Preset = Literal["demo", "tiny"]
Published = Literal["d16", "d20", "d24", "d30", "tiny"]


class Size(NamedTuple):
    """side: pixels along a side. widths, stride, book: of the tokenizer. sides: of the scales.

    width, depth, heads: sizes of the network. classes: number of labels. Choice: on the world of shapes the codebook
    is updated by running means and idle codes are revived, which learns colours sooner than VAR's gradient update.
    """

    side: int
    widths: tuple[int, ...]
    stride: Literal[8, 16]
    book: VQConfig
    sides: tuple[int, ...]
    width: int
    depth: int
    heads: int
    classes: int


def _published(depth: int) -> Size:
    book = VQConfig(channels=32, size=4096)
    return Size(256, (160, 160, 320, 320, 640), 16, book, VAR_SIDES[256], 64 * depth, depth, depth, 1000)


SIZES = {
    **{f"d{depth}": _published(depth) for depth in (16, 20, 24, 30)},
    "tiny": Size(32, (8, 8, 8), 8, VQConfig(channels=4, size=16), (1, 2, 4), 32, 2, 2, 8),
}
BOOK = VQConfig(channels=16, size=512, decay=0.99, revive_after=50)
SHAPES_SIZES = {
    "demo": Size(32, (16, 32, 64), 8, BOOK, (1, 2, 3, 4), 128, 4, 4, len(SHAPE_CLASSES)),
    "tiny": Size(32, (8, 8, 8), 8, BOOK.replace(channels=4, size=16), (1, 2, 4), 32, 2, 2, len(SHAPE_CLASSES)),
}


@recipe(status="measured")
def tokenizer_var_shapes(preset: Preset = "demo", data: str = "runs/data/shapes", minutes: float = 6.0) -> TrainConfig:
    """Multi-scale VQ tokenizer for images of the world of shapes: 1, 4, 9 and 16 codes of one codebook of 512.

    Choice: a quarter of the quantiser's loss; measurements are in docs/notes/tokenizers.md. Four phi convolutions, as
    in VAR.
    """
    method = AutoencodeConfig(
        tokenizer=_tokenizer(SHAPES_SIZES[preset]), latent_noise=0.0, latent_penalty=0.0, quantiser=0.25
    )
    return TrainConfig(
        name="tokenizer_var_shapes",
        method=method,
        data=ClipsConfig(path=data, clip_frames=1, batch=16),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )


@recipe(status="measured")
def var_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    tokenizer: str = "runs/tokenizer_var_shapes/model",
    start: str | None = None,
    batch: int = 32,
    minutes: float = 10.0,
) -> TrainConfig:
    """VAR on the world of shapes: an image of one of 28 classes in four calls."""
    size = SHAPES_SIZES[preset]
    train = _train("var_shapes", size, ShapeClassConfig(), SHAPE_CLASSES, data, tokenizer, start, batch)
    optim = OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200)
    return train.replace(optim=optim, minutes=minutes, sample_every=1000)


@recipe(status="trainable")
def var(
    preset: Published = "d16",
    data: str = "runs/data/imagenet",
    tokenizer: str = "runs/tokenizer_var/model",
    start: str | None = None,
    batch: int = 32,
) -> TrainConfig:
    """VAR at its published sizes: 256 x 256 pixels of one of 1000 classes in ten calls."""
    size = SIZES[preset]
    return _train("var", size, StoredClassConfig(num_classes=size.classes), (), data, tokenizer, start, batch)


def _tokenizer(size: Size) -> PyramidAutoencoderConfig:
    return PyramidAutoencoderConfig(
        autoencoder=AutoencoderConfig(
            widths=size.widths,
            num_res_blocks=(1, *(2 for _ in size.widths[1:])),
            latent_channels=size.book.channels,
            space_stride=size.stride,
        ),
        pyramid=MultiScaleConfig(
            quantiser=size.book,
            sizes=still(square(size.sides)),
            up="bicubic",
            num_phi=4,
            beta=0.25,
        ),
    )


def _train(
    name: str,
    size: Size,
    annotation: AnnotationConfig,
    classes: tuple[str, ...],
    data: str,
    tokenizer: str,
    start: str | None,
    batch: int,
) -> TrainConfig:
    backbone = BackboneConfig(
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        head_width=size.width // size.heads,
        in_width=size.book.channels + len(size.sides) + 3,
        out_width=size.book.size,
        rope=AxialRopeConfig(axes=("s", "t", "y", "x")),
    )
    pictures = VideoModelConfig(
        frames=1,
        name=name,
        height=size.side,
        width=size.side,
        classes=classes,
        tokenizer=_tokenizer(size),
        order=ScaleOrderConfig(),
        objective=PyramidsConfig(flip=0.0, balance=0.0, filters=(TopKConfig(count=900), TopPConfig(share=0.96))),
        net=WorldNetConfig(backbone=backbone, conditioner=LabelEmbedConfig(num_labels=size.classes, width=size.width)),
        guidance=GuidanceConfig(first=1.0, last=2.5),
    )
    return TrainConfig(
        name=name,
        method=TrainPicturesConfig(pictures=pictures, tokenizer=tokenizer, start=start),
        data=PictureClipsConfig(path=data, tokenizer=tokenizer, annotation=annotation, batch=batch),
        optim=OptimConfig(lr=1e-4, steps=500_000, warmup_steps=10_000, weight_decay=0.05, clip=2.0),
    )
