"""MMPL (Macro-from-Micro Planning, arXiv 2508.03334), small and with actions: anchor frames first, then the rest.

Reproduces the order, the mask and the chain of the paper but not its model, which fine-tunes the attention of Wan 2.1
14B. Choice: a frame is conditioned on all actions of its segment up to its own; the nearest known frame before it is
concatenated as input channels; the network predicts the change since that frame.
"""

from __future__ import annotations

from typing import Literal, cast

from vidar.conditioning.plan import PlanActionEmbedConfig
from vidar.configs.doom import GAME, SIZES
from vidar.configs.frame_world import frame_world
from vidar.configs.recipe import recipe
from vidar.configs.shapes import world_shapes
from vidar.model.model import VideoModelConfig
from vidar.objectives.anchor_hint import AnchorHintConfig
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.prediction import DataConfig
from vidar.orders.plan import PlanOrderConfig, StepMap, paired
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.plan_rows import PlanTwinConfig
from vidar.train.methods.world import TrainWorldConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]
MAPS = {"demo": paired(12), "tiny": paired(10)}
STEPS = {"demo": 8, "tiny": 2}  # solver steps


def _planned(world: VideoModelConfig, map: StepMap, steps: int) -> VideoModelConfig:
    """A world of frames as one of plans: the same network, other order, objective and history of actions."""
    told = PlanActionEmbedConfig(spec=world.spec, width=world.net.backbone.width, map=map)
    objective = FlowConfig(
        steps=steps,
        shift=3.0,
        mean=0.5,
        std=1.5,
        hint=AnchorHintConfig(map=map),
        prediction=DataConfig(),
        given=map.plan,
        context=ContextNoiseConfig(most=0.2, level=0.03),
    )
    return world.replace(
        context=map.first,
        order=PlanOrderConfig(map=map),
        objective=objective,
        net=world.net.replace(conditioner=told),
    )


def _train(
    name: str, world: VideoModelConfig, map: StepMap, data: str, tokenizer: str, batch: int, minutes: float
) -> TrainConfig:
    """The training run. One segment is one clip.

    Its start frames are given, and each later step has one common noise level.

    Choice: logit-normal levels and uniform loss weights; the paper's bell-shaped weight is `method.weight` with a
    BellWeightConfig.
    """
    method = TrainWorldConfig(
        world=world, tokenizer=tokenizer, stream=PlanTwinConfig(first=map.plan), clip_frames=map.length
    )
    clips = LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=map.length, batch=batch, patch=world.patch)
    return TrainConfig(
        name=name,
        method=method,
        data=clips,
        optim=OptimConfig(lr=2e-3, steps=50_000, warmup_steps=200),
        minutes=minutes,
        sample_every=1000,
    )


@recipe(status="measured")
def mmpl_shapes(
    preset: Preset = "demo",
    data: str = "runs/data/shapes",
    tokenizer: str = "runs/tokenizer_shapes/model",
    batch: int = 8,
    minutes: float = 15.0,
) -> TrainConfig:
    """MMPL with the network of world_shapes: segments of 12 new frames planned from two known frames."""
    known = cast(TrainWorldConfig, world_shapes(preset).method)
    map = MAPS[preset]
    return _train("mmpl_shapes", _planned(known.world, map, STEPS[preset]), map, data, tokenizer, batch, minutes)


@recipe(status="trainable")
def mmpl_doom(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    batch: int = 6,
    minutes: float = 15.0,
) -> TrainConfig:
    """MMPL with the network of world_doom: segments of 12 new frames planned from two known frames."""
    map = MAPS[preset]
    world = _planned(frame_world(GAME, SIZES[preset]), map, min(4, STEPS[preset]))
    return _train("mmpl_doom", world, map, data, tokenizer, batch, minutes)
