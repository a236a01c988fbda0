"""Distillation of a solver's end: a line learns where the solver leads; levels, oracle of the path, a tiny world."""

import math

import pytest
import torch
from gaussian import Line, flow, posterior_mean
from made_up import made_up

from vidar.configs.students import world_doom_one_call
from vidar.objectives.steppers import AdamsBashforthConfig, EulerConfig
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.methods.endpoint import row_means, solver_end


def path(x, levels):
    return [torch.full((len(x), 1), level, dtype=x.dtype) for level in levels]


def test_many_small_steps_of_a_perfect_teacher_end_where_its_flow_does():
    x = torch.linspace(-2, 2, 32, dtype=torch.float64)[:, None]
    levels = path(x, [1 - n / 400 for n in range(401)])
    first, second = (solver_end(c.build(), posterior_mean, x, levels) for c in (EulerConfig(), AdamsBashforthConfig()))
    want = flow(x, levels[0])
    assert (second - want).abs().max() < 1e-3 < 4e-3 and (second - want).abs().max() < (first - want).abs().max()


def test_two_steps_are_those_written_out():
    x = torch.linspace(-2, 2, 32, dtype=torch.float64)[:, None]
    one, middle, end = path(x, [0.9, 0.6, 0.0])
    v = (x - posterior_mean(x, one)) / one
    later = x + (middle - one) * v
    w = (later - posterior_mean(later, middle)) / middle
    want = later - middle * (w + 0.7 * 0.5 * (-middle) / (middle - one) * (w - v))
    solver = AdamsBashforthConfig(extrapolation=0.7).build()
    torch.testing.assert_close(solver_end(solver, posterior_mean, x, [one, middle, end]), want)


class Noisy:
    def update(self, x, v, call, levels, history, noise, unit):
        return x + noise(), None


def test_a_solver_that_draws_noise_is_refused():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="draws noise"):
        solver_end(Noisy(), posterior_mean, x, path(x, [1.0, 0.5, 0.0]))


def test_a_student_learns_the_end_and_not_the_mean():
    torch.manual_seed(0)
    student, solver = Line(), AdamsBashforthConfig().build()
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    for step in range(2000):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * 0.5 * (1 + math.cos(math.pi * step / 2000))
        x = torch.randn(256, 1)
        levels = path(x, [1.0, 0.75, 0.0])
        loss = (student(x, levels[0]) - solver_end(solver, posterior_mean, x, levels)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.linspace(-2, 2, 64)[:, None]
    levels = path(x, [1.0, 0.75, 0.0])
    with torch.no_grad():
        want = solver_end(solver, posterior_mean, x, levels)
        assert (student(x, levels[0]) - want).abs().max() < 0.05
        assert (posterior_mean(x, levels[0]) - want).abs().max() > 0.3


def test_a_frame_is_moved_to_the_mean_of_the_true_one_and_keeps_its_detail():
    row = torch.tensor([0, 0, 1, 1, 1, 2])
    wanted, clean = torch.randn(2, 2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = wanted + row_means(clean - wanted, row)
    for part in ([0, 1], [2, 3, 4], [5]):
        torch.testing.assert_close(moved[:, part].mean(1), clean[:, part].mean(1))
        shift = moved[:, part] - wanted[:, part]
        torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))


def test_levels_begin_at_noise_for_the_share_and_end_at_data():
    method = world_doom_one_call(preset="tiny").method.replace(p_noise=0.25).build()
    first, middle, end = method.levels(torch.tensor([[[0.2, 0.3], [0.5, 0.5]]]))
    assert first[0, 0] == 1 and middle[0, 0] == 0.75 and (end == 0).all()
    assert first[0, 1] == pytest.approx(0.75) and middle[0, 1] == pytest.approx(0.5)  # 3 u / (1 + 2 u)


def test_the_mean_of_a_frame_counts_as_often_as_it_is_asked_to(tmp_path):
    """By hand from the answers: one network, one batch, with and without the weight."""
    config = made_up(world_doom_one_call, tmp_path / "tokenizer")
    job = build(config, tmp_path / "run", torch.device("cpu"))
    batch = job.data.batch(0)
    rngs = [Rng(0, int(number)) for number in batch.number]
    plain = job.method.step(job.model, batch, rngs)
    job.method.config = job.method.config.replace(mean_weight=3.0)
    told = {}

    def regression(model, clips, made, wanted, rngs):
        told.update(error=made - wanted, weight=clips.weight)
        return plain

    job.method.pair.regression = regression
    loss = job.method.step(job.model, batch, rngs)
    row, frames = job.method.pair.clips.layout.row, []
    for m in range(int(row.max()) + 1):
        mean = told["error"][:, row == m].mean(1).square().mean(-1)
        frames.append(mean[:, None] * told["weight"][:, row == m])
    want = torch.cat(frames, 1).sum() / told["weight"].sum()
    torch.testing.assert_close(loss.parts["means"], want.detach())
    torch.testing.assert_close(loss.total, plain.total + 3.0 * want)
