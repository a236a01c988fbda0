"""Ca2-VDM: chunks of frames are denoised together after a clean prefix whose keys are computed once for all steps.

After "Ca2-VDM: Efficient Autoregressive Video Diffusion Model with Causal Generation and Cache Sharing" (Gao et al.,
ICML 2025). Attention within a frame, to the last frames before the chunk, and along time are three separate mixers;
temporal positions are cyclic; a flag marks the clean frames. `ca2vdm` has the size, diffusion path and losses of the
paper's prediction model (SkyTimelapse: l = 8, P_max = 25, 100 steps of DDPM with learned variances). The paper starts
from weights of Open-Sora 1.0 and initialises its new layers to zero; here every adaLN gate is initialised to zero.
SwiGLU, QK-norm and rotary positions inside a frame are not in the paper; all recipes of vidar have them.

`ca2vdm_doom` is a small relative on ViZDoom: rectified flow, actions through the modulation, convolutions, and the
last frame before the chunk as further input channels. Commands, minutes and figures: README.md in this folder.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.actions import ActionSpec
from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.conditioning.prefix import PrefixEmbedConfig
from vidar.configs.doom import GAME
from vidar.configs.doom import SIZES as DOOM
from vidar.configs.frame_world import CHANNELS, PATCH, SITE, Size, frame_tokenizer
from vidar.configs.recipe import recipe
from vidar.model.model import VideoModelConfig
from vidar.model.schedules import ChunksConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.block import SharedModulationConfig
from vidar.nn.convolution import ConvEmbedConfig, ConvHeadConfig
from vidar.nn.embed import LevelConfig
from vidar.nn.mixers import SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.diffusion import DiffusionConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.prediction import DataConfig
from vidar.objectives.prefix_hint import PrefixHintConfig
from vidar.orders.prefix import PrefixOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.prefix import TrainPrefixConfig
from vidar.train.optim import OptimConfig

MIXERS = tuple(SelfAttentionConfig(relation=name) for name in ("space", "prefix", "time"))
ROPE = AxialRopeConfig(axes=("y", "x"))  # time is encoded by PrefixEmbed alone


class Published(NamedTuple):
    """pixels: height and width. widths: of the tokenizer. dim .. heads: sizes of the network. order: the order of its
    frames. steps: sampler steps; training has as many levels as `betas`.
    """

    pixels: int
    widths: tuple[int, ...]
    dim: int
    depth: int
    heads: int
    head_width: int
    order: PrefixOrderConfig
    steps: int = 100
    betas: int = 1000
    lr: float = 2e-5


PUBLISHED = {
    "xl2": Published(256, (128, 256, 512), 1152, 28, 16, 72, PrefixOrderConfig(chunk=8, window=25)),
    "tiny": Published(
        32, (8, 8, 8), 32, 2, 2, 16, PrefixOrderConfig(chunk=2, window=3, prefix=2), steps=3, betas=50, lr=1e-3
    ),
}


@recipe(status="trainable")
def ca2vdm(
    preset: Literal["xl2", "tiny"] = "xl2",
    data: str = "runs/data/timelapse",
    tokenizer: str = "runs/tokenizer_timelapse/model",
    start: str | None = None,
    batch: int = 8,
) -> TrainConfig:
    """Video prediction at 256 x 256 pixels: latents of 4 channels at one eighth of the side, 256 sites per frame.

    Choice: 8 frames/s, and any tokenizer of this shape; the paper's is that of Stable Diffusion.
    """
    size = PUBLISHED[preset]
    channels = 4 * 2**2
    backbone = BackboneConfig(
        width=size.dim,
        depth=size.depth,
        heads=size.heads,
        head_width=size.head_width,
        in_width=channels + 1,
        out_width=2 * channels,
        mixers=MIXERS,
        rope=ROPE,
        level=LevelConfig(),
        modulation=SharedModulationConfig(),
    )
    world = VideoModelConfig(
        name="ca2vdm",
        fps=8.0,
        height=size.pixels,
        width=size.pixels,
        actions=ActionSpec(),
        patch=2,
        context=size.order.window,
        tokenizer=AutoencoderConfig(widths=size.widths, latent_channels=4, space_stride=8, time_stride=1),
        order=size.order,
        schedule=ChunksConfig(length=size.order.chunk),
        objective=DiffusionConfig(steps=size.steps, count=size.betas),
        net=WorldNetConfig(backbone=backbone, conditioner=PrefixEmbedConfig(width=size.dim)),
    )
    method = TrainPrefixConfig(world=world, tokenizer=tokenizer, start=start)
    return TrainConfig(
        name="ca2vdm",
        method=method,
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=method.clip_frames, batch=batch),
        optim=OptimConfig(lr=size.lr, steps=11_000, warmup_steps=1000),
    )


class Small(NamedTuple):
    """Sizes and frame order of `ca2vdm_doom`."""

    size: Size
    order: PrefixOrderConfig


SMALL = {
    "demo": Small(
        DOOM["demo"]._replace(width=192, depth=4, heads=3, head_width=64, channels=64),
        PrefixOrderConfig(chunk=4, window=9),
    ),
    "tiny": Small(DOOM["tiny"], PrefixOrderConfig(chunk=2, window=3, prefix=2)),
}


@recipe(status="measured")
def ca2vdm_doom(
    preset: Literal["demo", "tiny"] = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    batch: int = 8,
    minutes: float = 15.0,
) -> TrainConfig:
    """Ca2-VDM on ViZDoom: four frames are denoised together; all their actions are known before they start."""
    size, order = SMALL[preset]
    rows, columns = GAME.height // SITE, GAME.width // SITE
    channels = CHANNELS * PATCH**2
    picture = {"rows": rows, "columns": columns, "channels": size.channels}
    backbone = BackboneConfig(
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        head_width=size.head_width,
        in_width=2 * channels + 1,
        out_width=channels,
        mixers=MIXERS,
        rope=ROPE,
        level=LevelConfig(),
        embed=ConvEmbedConfig(**picture),
        head=ConvHeadConfig(**picture),
    )
    actions = ActionEmbedConfig(spec=GAME.actions, width=size.width, history=order.chunk + order.prefix)
    objective = FlowConfig(
        steps=size.steps,
        shift=3.0,
        mean=0.5,
        std=1.5,
        hint=PrefixHintConfig(chunk=order.chunk, first=order.first),
        prediction=DataConfig(),
        context=ContextNoiseConfig(most=0.2, level=0.03),
    )
    world = VideoModelConfig(
        **GAME._asdict(),
        patch=PATCH,
        tokenizer=frame_tokenizer(size),
        order=order,
        schedule=ChunksConfig(length=order.chunk),
        objective=objective,
        net=WorldNetConfig(backbone=backbone, conditioner=PrefixEmbedConfig(width=size.width, inner=actions)),
    )
    method = TrainPrefixConfig(world=world, tokenizer=tokenizer, start=start)
    return TrainConfig(
        name="ca2vdm_doom",
        method=method,
        data=LatentClipsConfig(
            path=data, tokenizer=tokenizer, clip_frames=method.clip_frames, batch=batch, patch=PATCH
        ),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=100),
        compile=True,
        minutes=minutes,
        sample_every=1000,
    )
