"""A student of doom.py that learns on its own rollouts, through the decode loop (Self-Forcing).

Reproduces no paper's figures: four-step text-to-video of 1.3 B with a teacher of 14 B there, a few steps of a game
here, where student, teacher and critic are of one size, 9 M.
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
    """From the shipped world, 8 frames dreamed after 4 given ones; played in `steps` calls, with fresh noise between.

    The loss is distribution matching, betas, weight decay and clipping are those of Self-Forcing; the recorded frames
    are context and give the actions. Choice: levels shifted as those of this world; one rate for student and critic.
    Not compiled: the calls of a rollout differ in shape.
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
