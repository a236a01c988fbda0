"""Memory Forcing (Huang et al., arXiv 2510.03198) on ViZDoom: a world that remembers its rooms as a cloud of points.

What was seen keeps its place: the world is shown the cloud as it looks from the next pose, and fills what is new. Four
stages: `depth_doom` reads depth from pictures, `memory_doom` learns how a player moves between walls, and the world is
trained on what such a memory shows. The paper's depth is that of VGGT and its poses are given; here both are small
networks. Choice: the paper's network attends to the source frames; ours gets them drawn, which needs no attention.
"""

from __future__ import annotations

import math
from typing import Literal

from vidar.cache.points import PointsConfig
from vidar.configs.doom import ACTIONS, GAME, SIZES
from vidar.configs.frame_world import PATCH, frame_world
from vidar.configs.recipe import recipe
from vidar.data.loader import ClipsConfig
from vidar.model.geometry import GeometryConfig
from vidar.model.model import VideoModelConfig
from vidar.nn.depth import DepthNetConfig
from vidar.nn.walk import WalkNetConfig
from vidar.train.config import TrainConfig
from vidar.train.methods.depth import DEPTH, DepthConfig
from vidar.train.methods.inverse_dynamics import WearConfig
from vidar.train.methods.walk import WalkConfig
from vidar.train.methods.world import OwnContextConfig, TrainWorldConfig, TwinConfig
from vidar.train.methods.worn import WornContextConfig
from vidar.train.optim import OptimConfig
from vidar.train.remembered import RememberedClipsConfig
from vidar.train.walks import WalksConfig

Preset = Literal["demo", "tiny"]

VIEW = 2 * math.degrees(math.atan(120 / 128))  # 90 degrees over 256 pixels, of which the middle 240 are kept
UNIT = 8.0  # map units of a level of ViZDoom's depth buffer
WEAR = WearConfig(blur=1.0, light=0.05, tint=0.03, contrast=0.1, noise=0.05, intact=0.5)
POINTS = PointsConfig(height=GAME.height, width=GAME.width, view=round(VIEW, 2))


def depth_net(size: Preset) -> DepthNetConfig:
    """The network that reads depth."""
    widths = (32, 64, 96, 128) if size == "demo" else (8, 8, 8)
    return DepthNetConfig(height=GAME.height, width=GAME.width, widths=widths)


def doom_memory(size: Preset) -> GeometryConfig:
    """The memory."""
    walk = WalkNetConfig(actions=ACTIONS.width, hidden=192 if size == "demo" else 8)
    return GeometryConfig(points=POINTS, depth=depth_net(size), walk=walk, patch=PATCH)


def remembering(world: VideoModelConfig, memory: GeometryConfig) -> VideoModelConfig:
    """The same world with a memory, for a world of rectified flow."""
    shown, backbone = memory.values(world.tokenizer.channels, world.patch), world.net.backbone
    net = world.net.replace(backbone=backbone.replace(in_width=backbone.in_width + shown))
    return world.replace(memory=memory, net=net, objective=world.flow.replace(shown=shown))


@recipe(status="trainable")
def depth_doom(preset: Preset = "demo", data: str = "runs/data/doom", minutes: float = 15.0) -> TrainConfig:
    """Depth network: reads the depth of every pixel, in map units, from one frame."""
    return TrainConfig(
        name="depth_doom",
        method=DepthConfig(model=depth_net(preset), unit=UNIT, wear=WEAR),
        data=ClipsConfig(path=data, clip_frames=1, batch=24, stride=3, extras=(DEPTH,), cache_bytes=4 << 30),
        optim=OptimConfig(lr=2e-3, steps=100_000, warmup_steps=100, weight_decay=0.02),
        minutes=minutes,
    )


@recipe(status="trainable")
def memory_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    depth: str = "runs/depth_doom/model",
    minutes: float = 4.0,
) -> TrainConfig:
    """Memory of a world: learns how the keys and the walls move the player, and adds the depth network."""
    made = doom_memory(preset)
    return TrainConfig(
        name="memory_doom",
        method=WalkConfig(memory=made, depth=depth),
        data=WalksConfig(
            path=data,
            tokenizer=tokenizer,
            depth=depth,
            points=made.points,
            patch=PATCH,
            clip_frames=made.walk.past + 1,
            batch=256,
        ),
        optim=OptimConfig(lr=2e-3, steps=100_000, warmup_steps=100, weight_decay=0.01),
        minutes=minutes,
    )


@recipe(status="trainable")
def world_doom_memory(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    depth: str = "runs/depth_doom/model",
    memory: str = "runs/memory_doom/model",
    start: str | None = None,
    batch: int = 6,
    minutes: float = 110.0,
) -> TrainConfig:
    """World that remembers its rooms: world_doom, shown before each frame what its memory has of it."""
    size = SIZES[preset]
    made = doom_memory(preset)
    return TrainConfig(
        name="world_doom_memory",
        method=TrainWorldConfig(
            world=remembering(frame_world(GAME, size), made),
            memory=memory,
            tokenizer=tokenizer,
            start=start,
            stream=TwinConfig(),
            clip_frames=size.clip_frames,
            own_context=OwnContextConfig(most=1.0, generations=4),
            worn=WornContextConfig(),
        ),
        data=RememberedClipsConfig(
            path=data,
            tokenizer=tokenizer,
            depth=depth,
            points=made.points,
            patch=PATCH,
            clip_frames=size.clip_frames,
            batch=batch,
        ),
        optim=OptimConfig(lr=6e-4, steps=100_000, warmup_steps=200),
        compile=True,
        minutes=minutes,
        sample_every=1000,
    )
