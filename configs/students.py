"""Few-step worlds for ViZDoom: three students of a trained world, and a world that is its own teacher.

`world_doom_student`, `world_doom_one_call` and `world_doom_scm` start from the weights of their teacher;
`world_doom_shortcut` is trained from scratch and generates a frame in 1, 2, 4, .. steps with one network (`vidar play
--steps N`). They do not reproduce the figures of the papers; sizes and data are those of the game.
"""

from __future__ import annotations

from vidar.configs.doom import GAME, SIZES, Preset
from vidar.configs.frame_world import PATCH, Size, frame_world
from vidar.configs.recipe import recipe
from vidar.model.model import VideoModelConfig
from vidar.nn.embed import LevelConfig
from vidar.objectives.step_size import ToldConfig
from vidar.objectives.steppers import AdamsBashforthConfig, EulerConfig, RenoiseConfig
from vidar.train.config import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.adversary import AdversaryConfig
from vidar.train.methods.consistency import ConsistencyConfig
from vidar.train.methods.continuous_consistency import ContinuousConsistencyConfig, DifferenceConfig
from vidar.train.methods.distillation import DistillationConfig
from vidar.train.methods.endpoint import EndpointConfig
from vidar.train.methods.shortcut import ShortcutConfig
from vidar.train.methods.world import OwnContextConfig
from vidar.train.optim import OptimConfig

OWN = OwnContextConfig(most=1.0, generations=4)  # as in the training of the teacher


@recipe(status="trainable")
def world_doom_student(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    teacher: str = "runs/decoder_doom/model",
    steps: int = 2,
    batch: int = 6,
    minutes: float = 30.0,
) -> TrainConfig:
    """Student of the doom world, `steps` calls per frame: discrete consistency distillation."""
    size = SIZES[preset]
    method = ConsistencyConfig(
        teacher=teacher, world=_student(size, steps), clip_frames=size.clip_frames, own_context=OWN
    )
    return _distil("world_doom_student", method, _clips(size, data, tokenizer, batch), minutes)


@recipe(status="measured")
def world_doom_one_call(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    teacher: str = "runs/decoder_doom/model",
    steps: int = 1,
    batch: int = 6,
    minutes: float = 30.0,
) -> TrainConfig:
    """Student of the doom world whose single call replaces two solver steps of its teacher.

    Choice: extrapolation 1.5, which lasts longest in endless play among the values whose frame difference stays below
    2 times the game's. Measurements: docs/notes/students.md.
    """
    size = SIZES[preset]
    world, stepper = _student(size, steps), AdamsBashforthConfig(extrapolation=1.5, rise=32.0)
    method = EndpointConfig(
        teacher=teacher,
        world=world.replace(objective=world.flow.replace(stepper=stepper, shift=1.0)),
        clip_frames=size.clip_frames,
        own_context=OwnContextConfig(share=0.7, most=1.5, generations=5),
        mean_weight=8.0,
    )
    return _distil("world_doom_one_call", method, _clips(size, data, tokenizer, batch), minutes)


@recipe(status="trainable")
def world_doom_scm(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    teacher: str = "runs/decoder_doom/model",
    steps: int = 2,
    batch: int = 6,
    minutes: float = 60.0,
) -> TrainConfig:
    """Student of the doom world, `steps` calls per frame: continuous consistency and an adversary (NFD+).

    Choice: the adversary reads features of the middle and the last block of the teacher. The derivative is a
    difference over arcs of 0.02 radians, because the level embedding of this world has frequencies of up to 1,000
    radians. Measurements: docs/notes/students.md.
    """
    size, warmup = SIZES[preset], {"demo": 1000, "tiny": 20}[preset]
    method = ContinuousConsistencyConfig(
        teacher=teacher,
        world=_student(size, steps),
        clip_frames=size.clip_frames,
        own_context=OWN,
        adversary=AdversaryConfig(blocks=(size.depth // 2 - 1, size.depth - 1), width=size.width),
        warmup_steps=warmup,
        derivative=DifferenceConfig(),
    )
    return _distil("world_doom_scm", method, _clips(size, data, tokenizer, batch), minutes)


@recipe(status="trainable")
def world_doom_shortcut(
    preset: Preset = "demo",
    data: str = "runs/data/doom",
    tokenizer: str = "runs/tokenizer_doom/model",
    start: str | None = None,
    steps: int = 2,
    batch: int = 6,
    minutes: float = 110.0,
) -> TrainConfig:
    """Frame-causal shortcut world: one network for 1, 2, 4, .. steps per frame, trained without a teacher."""
    size = SIZES[preset]
    world = frame_world(GAME, size)
    backbone = world.net.backbone
    backbone = backbone.replace(in_width=backbone.in_width + 1, step_size=LevelConfig())
    objective = world.objective.replace(steps=steps, stepper=EulerConfig(), step_size=ToldConfig())
    world = world.replace(objective=objective, net=world.net.replace(backbone=backbone))
    method = ShortcutConfig(
        world=world,
        tokenizer=tokenizer,
        start=start,
        clip_frames=size.clip_frames,
        own_context=OWN,
    )
    return TrainConfig(
        name="world_doom_shortcut",
        method=method,
        data=_clips(size, data, tokenizer, batch),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=200),
        compile=True,
        minutes=minutes,
        sample_every=1000,
    )


def _student(size: Size, steps: int) -> VideoModelConfig:
    world = frame_world(GAME, size)
    return world.replace(objective=world.objective.replace(steps=steps, stepper=RenoiseConfig()))


def _distil(name: str, method: DistillationConfig, data: LatentClipsConfig, minutes: float) -> TrainConfig:
    optim = OptimConfig(lr=3e-4, steps=100_000, warmup_steps=200)
    return TrainConfig(name=name, method=method, data=data, optim=optim, compile=True, minutes=minutes)


def _clips(size: Size, data: str, tokenizer: str, batch: int) -> LatentClipsConfig:
    return LatentClipsConfig(path=data, tokenizer=tokenizer, clip_frames=size.clip_frames, batch=batch, patch=PATCH)
