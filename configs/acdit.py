"""ACDiT (arXiv 2412.07720): blocks of frames, each denoised after the clean blocks before it.

Published and small sizes.

In training every block occurs twice, clean and noisy (`TWIN`; the paper calls its mask skip-causal attention). Noisy
copies have a level of their own, contribute to the loss and receive the condition; clean copies do not
(`InFlightConfig`). In decoding, the clean block is computed in the first call of the next block. Positions are
RoPE-ND with a rotary base that depends on the length of each axis. Queries and keys are normalised.

Choice: rectified flow with a logit-normal level per block instead of the paper's noise prediction on a DDPM path of
1,000 steps; SwiGLU with the same number of weights instead of GELU; a cosine learning rate schedule instead of a
constant rate that is halved later.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vidar.actions import Action, ActionSpec
from vidar.conditioning.action import ActionEmbedConfig
from vidar.conditioning.in_flight import InFlightConfig
from vidar.conditioning.net import WorldNetConfig
from vidar.configs.doom import GAME, SIZES
from vidar.configs.frame_world import PATCH, Size, frame_world, train_frame_world
from vidar.configs.recipe import recipe
from vidar.model.model import VideoModelConfig
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig
from vidar.nn.rope import LengthRopeConfig
from vidar.objectives.context import CleanConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import LastFrameHintConfig
from vidar.objectives.steppers import DPMSolverConfig
from vidar.orders.block import BlockOrderConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.world import TrainWorldConfig, TwinConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]
Published = Literal["b", "l", "xl", "h", "tiny"]

CLASSES = ActionSpec(actions=(Action(name="class", kind="choice", size=101),))


class Dit(NamedTuple):
    """dim, depth, heads: sizes of the network. side: pixels along the side of a frame. frames: frames of a clip.
    widths: of the tokenizer.

    steps: solver steps in play.
    """

    dim: int
    depth: int
    heads: int
    side: int = 256
    frames: int = 16
    steps: int = 25
    widths: tuple[int, ...] = (128, 256, 512)


SIZES_PUBLISHED = {
    "b": Dit(768, 12, 12),
    "l": Dit(1024, 24, 16),
    "xl": Dit(1152, 28, 18),
    "h": Dit(1280, 32, 20),
    "tiny": Dit(32, 2, 2, side=32, frames=8, steps=3, widths=(8, 8, 8)),
}
BLOCK, LATENTS = 4, 4  # frames of a block; channels of the tokenizer


@recipe(status="trainable")
def acdit(
    preset: Published = "b",
    data: str = "runs/data/ucf101",
    tokenizer: str = "runs/tokenizer_acdit/model",
    start: str | None = None,
    batch: int = 96,
) -> TrainConfig:
    """ACDiT for video at its published sizes: UCF-101, 16 frames of 256 sites in blocks of 4 frames.

    The class is an action that is the same in every frame. The frame rate is unknown and nothing was measured: the
    recipe was not trained, and it needs the tokenizer of Stable Diffusion (8 x 8 pixels to 4 channels). The paper's
    guidance of weight 2.5 is not set here.
    """
    size = SIZES_PUBLISHED[preset]
    sites = size.side // 16
    backbone = BackboneConfig(
        width=size.dim,
        depth=size.depth,
        heads=size.heads,
        head_width=size.dim // size.heads,
        in_width=LATENTS * PATCH**2 + 1,
        out_width=LATENTS * PATCH**2,
        level=LevelConfig(),
        rope=LengthRopeConfig(lengths=(size.frames, sites, sites)),
    )
    conditioner = InFlightConfig(actions=ActionEmbedConfig(spec=CLASSES, width=size.dim))
    world = VideoModelConfig(
        name="acdit",
        fps=25.0,
        height=size.side,
        width=size.side,
        actions=CLASSES,
        patch=PATCH,
        tokenizer=AutoencoderConfig(widths=size.widths, latent_channels=LATENTS),
        order=BlockOrderConfig(frames=BLOCK, window=size.frames // BLOCK - 1),
        objective=FlowConfig(steps=size.steps, stepper=DPMSolverConfig(), context=CleanConfig()),
        net=WorldNetConfig(backbone=backbone, conditioner=conditioner),
    )
    optim = OptimConfig(lr=1e-4, steps=400_000, warmup_steps=1000, weight_decay=0.05)
    method = TrainWorldConfig(
        world=world, tokenizer=tokenizer, start=start, stream=TwinConfig(), clip_frames=size.frames, p_unknown=0.1
    )
    clips = LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.frames, batch=batch, patch=PATCH)
    return TrainConfig(name="acdit", method=method, data=clips, optim=optim, ema_decay=0.9999, sample_every=5000)


@recipe(status="measured")
def acdit_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    frames: int = 2,
    batch: int = 6,
    minutes: float = 15.0,
) -> TrainConfig:
    """ACDiT on ViZDoom: blocks of `frames` frames of 20 sites, with the tokenizer of `doom`.

    Choice: as in frame_world.py, the last frame of the previous block is concatenated as input channels, the network
    predicts the change since that frame, and convolutions precede and follow the transformer blocks.
    """
    size = SIZES[preset]
    world = _doom(size, frames)
    clip = size.clip_frames // frames * frames
    method = TrainWorldConfig(
        world=world,
        tokenizer=tokenizer,
        start=start,
        stream=TwinConfig(),
        clip_frames=clip,
    )
    plain = train_frame_world("acdit_doom", world, size, data, tokenizer, start, batch, minutes)
    return plain.replace(method=method, data=plain.data.replace(clip_frames=clip))


def _doom(size: Size, frames: int) -> VideoModelConfig:
    plain = frame_world(GAME, size)
    window = size.clip_frames // frames - 1
    backbone = plain.net.backbone.replace(rope=LengthRopeConfig(lengths=(size.clip_frames, *plain.sites)))
    actions = ActionEmbedConfig(spec=GAME.actions, width=size.width, history=size.window)
    objective = plain.flow.replace(
        hint=LastFrameHintConfig(frames=frames), context=CleanConfig(), stepper=DPMSolverConfig(), steps=4
    )
    return plain.replace(
        name="acdit_doom",
        order=BlockOrderConfig(frames=frames, window=window),
        objective=objective,
        net=WorldNetConfig(backbone=backbone, conditioner=InFlightConfig(actions=actions)),
    )
