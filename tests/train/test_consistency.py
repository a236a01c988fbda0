"""Consistency distillation: on data whose flow is known in closed form, and on a tiny world."""

import math

import pytest
import torch
from gaussian import MEAN, STD, Line, flow, posterior_mean, spread
from made_up import made_up

from vidar.configs.doom import world_doom
from vidar.configs.students import world_doom_one_call, world_doom_student
from vidar.model.load import load
from vidar.objectives.steppers import AdamsBashforthConfig, EulerConfig, HeunConfig, RenoiseConfig
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.methods.consistency import consistency_target
from vidar.types import UsageError


def test_a_student_of_a_perfect_teacher_learns_the_flow_and_not_its_mean():
    torch.manual_seed(0)
    student = Line()
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    for step in range(3000):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * 0.5 * (1 + math.cos(math.pi * step / 3000))
        level = torch.rand(256, 1).clamp_min(1e-3)
        later = (level - 1 / 48).clamp_min(0)
        x = (1 - level) * (MEAN + STD * torch.randn(256, 1)) + level * torch.randn(256, 1)
        wanted = consistency_target(student, posterior_mean, x, level, later)
        loss = (student(x, level) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for s in (0.3, 0.6, 0.8, 1.0):
            level = torch.full((64, 1), s)
            x = (1 - s) * MEAN + spread(s) * torch.linspace(-2, 2, 64)[:, None]
            assert (student(x, level) - flow(x, level)).abs().max() < 0.1 * STD * 2
            assert (posterior_mean(x, level) - flow(x, level)).abs().max() > (0.1 if s < 0.5 else 0.4) * STD * 2


def test_renoising_with_the_exact_student_keeps_the_distribution():
    """Four calls on 40,000 numbers: mean and deviation within 5 standard errors."""
    n, levels = 40_000, [1.0, 0.75, 0.5, 0.25, 0.0]
    generator = torch.Generator().manual_seed(0)
    stepper, x = RenoiseConfig().build(), torch.randn(n, generator=generator, dtype=torch.float64)
    assert stepper.evaluations(levels) == levels[:-1]
    for call, level in enumerate(levels[:-1]):
        v = (x - flow(x, level)) / level
        x, history = stepper.update(x, v, call, levels, None, lambda: torch.randn(n, generator=generator).double(), 0)
        assert history is None
    assert abs(x.mean() - MEAN) < 5 * STD / math.sqrt(n) and abs(x.std() - STD) < 5 * STD / math.sqrt(2 * n)


@pytest.mark.parametrize(
    ("recipe", "steps", "stepper"),
    [(world_doom_student, 2, RenoiseConfig), (world_doom_one_call, 1, AdamsBashforthConfig)],
)
def test_a_student_begins_as_its_teacher_and_learns_beside_it(recipe, steps, stepper, tmp_path, one_thread):
    config = made_up(recipe, tmp_path / "tokenizer")
    job = build(config, tmp_path / "run", torch.device("cpu"))
    teacher = job.method.teacher.net
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in job.model.state_dict().items())
    values = [train_step(job, job.data.batch(index), 1e-3)["consistency"] for index in range(4)]
    assert all(math.isfinite(float(value)) and value > 0 for value in values)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in job.model.state_dict().items())
    job.method.export(job.model, tmp_path / "student")
    world = load(tmp_path / "student")
    assert world.config.objective.steps == steps and isinstance(world.config.objective.stepper, stepper)
    codes = torch.zeros(1, 3, 20, 32)
    made = [next(iter(world.codes(codes, iter(torch.zeros(1, 1, 5)), rngs=[Rng(seed)]))) for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_levels_reach_from_noise_to_data(tmp_path):
    method = world_doom_student(preset="tiny").method.build()
    now, later = method.levels(torch.tensor([1.0, 0.5, 1 / 48, 1 / 96]))
    assert now[0] == 1 and (now > later).all() and later[2] == later[3] == 0
    assert now[1] == pytest.approx(0.75)  # 3 u / (1 + 2 u)


def test_what_is_no_student_is_refused(tmp_path):
    config = world_doom_student(preset="tiny").method
    for stepper in (RenoiseConfig(), EulerConfig(), AdamsBashforthConfig()):
        config.replace(world=config.world.replace(objective=config.world.objective.replace(stepper=stepper))).build()
    plain = config.world.replace(objective=config.world.objective.replace(stepper=HeunConfig()))
    with pytest.raises(UsageError, match="stepper: a student plays with one call per step"):
        config.replace(world=plain).build()
    world_doom(preset="tiny").method.world.build()
    with pytest.raises(UsageError, match="no such world"):
        config.replace(teacher=str(tmp_path / "nobody")).build().build_model()
