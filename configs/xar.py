"""xAR (arXiv 2502.20388): next-X prediction, where every unit has its own noise level and sees noisy units before it.

X is a cell, a sub-sample or a scale of a frame, or a whole frame. In training every unit occurs once (SINGLE) at a
logit-normal level, and later units see it at that noise level. In play a unit is committed at level 0 in the first
call of the next unit. The sampler is Euler-Maruyama. Published and small sizes.

Choice: one stack of blocks, where the paper has an encoder and a decoder of half the depth each.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.actions import Action, ActionSpec
from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.configs.doom import GAME, SIZES
from vidar.configs.frame_world import Size, frame_world, train_frame_world
from vidar.configs.recipe import recipe
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig, LinearEmbedConfig
from vidar.nn.heads import LinearHeadConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.objectives.context import CleanConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import PreviousHintConfig
from vidar.objectives.steppers import EulerMaruyamaConfig
from vidar.orders.block import BlockOrderConfig
from vidar.orders.cell import CellOrderConfig
from vidar.orders.config import OrderConfig
from vidar.orders.pyramid import PyramidOrderConfig
from vidar.orders.subsample import SubsampleOrderConfig
from vidar.sampling.guidance import GuidanceConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.world import SingleConfig, TrainWorldConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]
Published = Literal["b", "l", "h", "tiny"]

CLASSES = ActionSpec(actions=(Action(name="class", kind="choice", size=1000),))


class Xar(NamedTuple):
    """dim, depth, heads: sizes of the network. steps: solver steps. guidance: weight of the last cell.

    side: pixels along a side.
    """

    dim: int
    depth: int
    heads: int
    steps: int
    guidance: float
    side: int = 256
    widths: tuple[int, ...] = (128, 256, 256, 512)


SIZES_PUBLISHED = {
    "b": Xar(768, 16, 12, steps=40, guidance=2.7),
    "l": Xar(1024, 32, 16, steps=50, guidance=2.3),
    "h": Xar(1280, 40, 16, steps=50, guidance=2.2),
    "tiny": Xar(32, 2, 2, steps=2, guidance=2.7, side=64, widths=(8, 8, 8, 8)),
}
CHANNELS, SIDE = 16, 16  # channels of the tokenizer; pixels along the side of a site
CELLS = 2  # cells along each side of an image
SCALES = ((2, 3), (4, 5))  # sites (rows, columns) of each scale of a game frame


@recipe(status="trainable")
def xar(
    preset: Published = "b",
    data: str = "runs/data/imagenet",
    tokenizer: str = "runs/tokenizer_xar/model",
    start: str | None = None,
    batch: int = 2048,
) -> TrainConfig:
    """xAR at its published sizes: class-conditional images (1000 classes) of 256 sites in 4 cells of 64.

    An image is a frame that sees no other frame, and its class is the action of that frame. It was not trained here
    and has no figures; it needs the tokenizer of MAR (16 x 16 pixels to 16 channels). Choice: guidance rises from
    call to call, where the paper's rises from cell to cell; a clip consists of two images, because the first frame of
    a clip has no action.
    """
    size = SIZES_PUBLISHED[preset]
    backbone = BackboneConfig(
        width=size.dim,
        depth=size.depth,
        heads=size.heads,
        head_width=size.dim // size.heads,
        in_width=CHANNELS + 1,
        out_width=CHANNELS,
        level=LevelConfig(),
    )
    conditioner = ActionEmbedConfig(spec=CLASSES, width=size.dim, period=CELLS**2)
    world = VideoModelConfig(
        name="xar",
        fps=1.0,
        height=size.side,
        width=size.side,
        actions=CLASSES,
        patch=1,
        context=1,
        tokenizer=AutoencoderConfig(
            widths=size.widths, num_res_blocks=(1, 2, 2, 2), latent_channels=CHANNELS, space_stride=SIDE
        ),
        order=CellOrderConfig(rows=CELLS, columns=CELLS, window=0),
        objective=FlowConfig(steps=size.steps, stepper=EulerMaruyamaConfig(), context=CleanConfig()),
        net=WorldNetConfig(backbone=backbone, conditioner=conditioner),
        guidance=GuidanceConfig(first=1.0, last=size.guidance),
    )
    return TrainConfig(
        name="xar",
        method=TrainWorldConfig(
            world=world, tokenizer=tokenizer, start=start, stream=SingleConfig(), clip_frames=2, p_unknown=0.1
        ),
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=2, batch=batch // 2, patch=1),
        optim=OptimConfig(lr=4e-4, steps=500_000, warmup_steps=62_500, weight_decay=0.05),
        sample_every=5000,
    )


@recipe(status="measured")
def xar_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    batch: int = 6,
    minutes: float = 15.0,
) -> TrainConfig:
    """xAR on ViZDoom with X = frame: units of 20 sites, with the tokenizer of `doom`.

    Choice: as in frame_world.py, the previous frame is concatenated as input channels in its committed form (so it is
    the only clean frame in training), the network predicts the change since it, and convolutions precede and follow
    the blocks. The solver is Euler, because Euler-Maruyama leaves noise in the frame when the steps are few.
    """
    size = SIZES[preset]
    world = _doom("xar_doom", size, BlockOrderConfig(frames=1, window=size.window), cells=1)
    return _train(world, size, data, tokenizer, start, batch, minutes)


@recipe(status="trainable")
def xar_cells_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    batch: int = 6,
    minutes: float = 15.0,
) -> TrainConfig:
    """xAR on ViZDoom with X = cell: the upper half of a frame, then the lower half, 10 sites each; see `xar_doom`.

    Choice: convolutions act inside a cell and treat its border as that of the image.
    """
    size = SIZES[preset]
    world = _doom("xar_cells_doom", size, CellOrderConfig(rows=2, columns=1, window=size.window), cells=2)
    return _train(world, size, data, tokenizer, start, batch, minutes)


@recipe(status="trainable")
def xar_subsamples_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    batch: int = 6,
    minutes: float = 15.0,
) -> TrainConfig:
    """xAR on ViZDoom with X = sub-sample: every other row of a frame, then the rows between; see `xar_doom`.

    Choice: sub-sampling of rows only, because 5 columns cannot be halved; convolutions treat the rows of a sub-sample
    as neighbours.
    """
    size = SIZES[preset]
    world = _doom("xar_subsamples_doom", size, SubsampleOrderConfig(rows=2, columns=1, window=size.window), cells=2)
    return _train(world, size, data, tokenizer, start, batch, minutes)


@recipe(status="trainable")
def xar_scales_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    batch: int = 6,
    minutes: float = 15.0,
) -> TrainConfig:
    """xAR on ViZDoom with X = scale: a frame as 2 x 3 sites, then as its 4 x 5 sites; see `xar_doom`.

    Choice: two scales; each predicts the change from the previous frame at the same scale. No convolutions, because
    they need one image size. The coarse scale of a context frame holds the means of its areas, that of a generated
    frame what the network generated.
    """
    size = SIZES[preset]
    order = PyramidOrderConfig(sides=SCALES, window=size.window)
    plain = _doom("xar_scales_doom", size, order, cells=order.period)
    backbone = plain.net.backbone.replace(
        rope=AxialRopeConfig(axes=("s", "t", "y", "x")), embed=LinearEmbedConfig(), head=LinearHeadConfig()
    )
    world = plain.replace(net=plain.net.replace(backbone=backbone))
    return _train(world, size, data, tokenizer, start, batch, minutes)


def _doom(name: str, size: Size, order: OrderConfig, cells: int) -> VideoModelConfig:
    """cells: units of a frame; convolutions are of a part of its rows."""
    plain = frame_world(GAME, size)
    rows, columns = plain.sites[0] // cells, plain.sites[1]
    parts = {
        "embed": plain.net.backbone.embed.replace(rows=rows, columns=columns),
        "head": plain.net.backbone.head.replace(rows=rows, columns=columns),
    }
    actions = ActionEmbedConfig(spec=GAME.actions, width=size.width, history=size.window, period=cells)
    objective = plain.flow.replace(hint=PreviousHintConfig(back=cells), given=cells, context=CleanConfig())
    return plain.replace(
        name=name,
        order=order,
        objective=objective,
        net=WorldNetConfig(backbone=plain.net.backbone.replace(**parts), conditioner=actions),
    )


def _train(
    world: VideoModelConfig,
    size: Size,
    data: str,
    tokenizer: str,
    start: str | None,
    batch: int,
    minutes: float,
) -> TrainConfig:
    plain = train_frame_world(world.name, world, size, data, tokenizer, start, batch, minutes)
    method = TrainWorldConfig(
        world=world, tokenizer=tokenizer, start=start, stream=SingleConfig(), clip_frames=size.clip_frames
    )
    return plain.replace(method=method, optim=plain.optim.replace(warmup_steps=50))
