"""Self-Forcing on ViZDoom: a student of the doom world that learns on its own rollouts through the decode loop.

It does not reproduce the figures of the paper: the paper distils four-step text-to-video of 1.3 B parameters from a
teacher of 14 B; here a few steps of a game are learned, and student, teacher and critic have the same size of 9 M.
"""

from __future__ import annotations

from vidar.configs.doom import GAME, SIZES, Preset
from vidar.configs.frame_world import PATCH, frame_world
from vidar.configs.recipe import recipe
from vidar.objectives.steppers import RenoiseConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.distribution_matching import MatchingConfig
from vidar.train.methods.self_forcing import SelfForcingConfig
from vidar.train.optim import OptimConfig


@recipe(status="trainable")
def world_doom_self_forcing(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "vidar/pretrained/doom/tokenizer",
    teacher: str = "doom",
    steps: int = 2,
    batch: int = 6,
    minutes: float = 30.0,
) -> TrainConfig:
    """Student of the doom world, trained on rollouts of 8 frames after 4 recorded ones (Self-Forcing).

    Play generates a frame in `steps` calls with fresh noise between them. The loss is distribution matching; betas,
    weight decay and clipping are those of Self-Forcing. The recorded frames are the context and supply the actions.
    Choice: noise levels are shifted as in this world; student and critic have the same learning rate. Not compiled,
    because the calls of a rollout differ in shape.
    """
    size = SIZES[preset]
    world = frame_world(GAME, size)
    method = SelfForcingConfig(
        teacher=teacher,
        world=world.replace(objective=world.objective.replace(steps=steps, stepper=RenoiseConfig())),
        clip_frames=size.clip_frames,
        context={"demo": 4, "tiny": 2}[preset],
        matching=MatchingConfig(shift=world.flow.shift),
    )
    return TrainConfig(
        name="world_doom_self_forcing",
        method=method,
        data=LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.clip_frames, batch=batch, patch=PATCH),
        optim=OptimConfig(lr=1e-4, steps=100_000, warmup_steps=100, betas=(0.0, 0.999), clip=10.0),
        minutes=minutes,
    )
