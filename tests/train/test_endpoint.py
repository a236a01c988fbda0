"""Distillation of a solver's end: a line learns where the solver leads; levels, oracle of the path, a tiny world."""

import itertools
import math

import pytest
import torch
from gaussian import Line, flow, posterior_mean
from made_up import made_up

from vidar.configs.students import world_doom_one_call
from vidar.objectives.flow import FlowConfig
from vidar.objectives.steppers import (
    AdamsBashforthConfig,
    DPMSolverConfig,
    EulerConfig,
    EulerMaruyamaConfig,
    HeunConfig,
    RenoiseConfig,
)
from vidar.orders.frame import frame_grid
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.methods.endpoint import row_means, solver_end
from vidar.types import Past, UsageError

ONE_CALL = EulerConfig(), AdamsBashforthConfig(extrapolation=1.5, rise=2.0), DPMSolverConfig()
NAMES = [type(config).__name__ for config in ONE_CALL]


def ends(solver, x, levels, unit=0):
    """Where points x [n, 1], the sites of one unit, are led to."""
    row, path = (
        torch.zeros(len(x), dtype=torch.long),
        [torch.full((1, 1), level, dtype=torch.float64) for level in levels],
    )
    return solver_end(solver, posterior_mean, x[None], path, row, {0: unit})[0]


def test_many_small_steps_of_a_perfect_teacher_end_where_its_flow_does():
    x = torch.linspace(-2, 2, 32, dtype=torch.float64)[:, None]
    levels = [1 - n / 400 for n in range(401)]
    solvers = EulerConfig(), AdamsBashforthConfig(), DPMSolverConfig()
    first, second, third = ((ends(c.build(), x, levels) - flow(x, torch.ones(1))).abs().max() for c in solvers)
    assert second < 1e-3 and third < 1e-3 and max(second, third) < first < 4e-3


@pytest.mark.parametrize("stepper", ONE_CALL, ids=NAMES)
def test_every_row_walks_as_the_unit_of_play_that_it_is(stepper):
    """Two units and two clips at once, against the objective of play, call by call; a third row is not moved."""
    calls, units, shape = 4, {0: 1, 2: 5}, (2, 9, 1)
    grid = frame_grid(1, 3)
    objective = FlowConfig(steps=calls, shift=3.0, stepper=stepper).build(1, grid, torch.float64)
    row, none = torch.arange(3).repeat_interleave(3), Past({}, {})
    noise = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    path = [torch.full((2, 3), level, dtype=torch.float64) for level in objective.levels]
    found = solver_end(stepper.build(), posterior_mean, noise, path, row, units)
    assert torch.equal(found[:, row == 1], noise[:, row == 1])
    for b, (m, unit) in itertools.product(range(2), units.items()):
        x = objective.start(unit, none, Rng(0))._replace(x=noise[b, row == m])
        for step, level in enumerate(objective.calls):
            out = (x.x - posterior_mean(x.x, torch.tensor(level, dtype=torch.float64))) / level
            x = objective.update(unit, x, out, step, Rng(0))
        torch.testing.assert_close(found[b, row == m], objective.finish(x), rtol=0, atol=1e-12)


def test_rows_of_one_call_begin_at_levels_of_their_own():
    """Clip by clip and row by row, as if each were alone."""
    x = torch.linspace(-2, 2, 4, dtype=torch.float64).reshape(2, 2, 1)
    first = torch.tensor([[1.0, 0.7], [0.4, 0.9]], dtype=torch.float64)
    path, row, solver = [first, first / 2, 0 * first], torch.arange(2), DPMSolverConfig().build()
    found = solver_end(solver, posterior_mean, x, path, row, {0: 0, 1: 1})
    for b, m in itertools.product(range(2), range(2)):
        alone = ends(solver, x[b, m : m + 1], [float(level[b, m]) for level in path])
        torch.testing.assert_close(found[b, m : m + 1], alone, rtol=0, atol=1e-12)


def test_two_steps_are_those_written_out():
    x = torch.linspace(-2, 2, 32, dtype=torch.float64)[:, None]
    one, middle = torch.tensor(0.9, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    v = (x - posterior_mean(x, one)) / one
    later = x + (middle - one) * v
    w = (later - posterior_mean(later, middle)) / middle
    want = later - middle * (w + 0.7 * 0.5 * (-middle) / (middle - one) * (w - v))
    solver = AdamsBashforthConfig(extrapolation=0.7).build()
    torch.testing.assert_close(ends(solver, x, [0.9, 0.6, 0.0]), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "calls"),
    [(HeunConfig(), 2), (RenoiseConfig(), 2), (EulerMaruyamaConfig(), 4), (EulerMaruyamaConfig(), 1)],
    ids=["Heun", "Renoise", "EulerMaruyama in four", "EulerMaruyama in one"],
)
def test_a_solver_with_more_calls_or_noise_is_refused(solver, calls):
    config = world_doom_one_call(preset="tiny").method
    message = (
        rf"^method\.solver: {type(solver).__name__} does not make one call per level, or draws noise; "
        "use EulerConfig, AdamsBashforthConfig or DPMSolverConfig$"
    )
    with pytest.raises(UsageError, match=message):
        config.replace(solver=solver, calls=calls).build()


@pytest.mark.parametrize("solver", ONE_CALL, ids=NAMES)
def test_what_is_asked_is_led_on_and_nothing_else(solver, tmp_path, one_thread):
    """Commits stay, for one, two and five calls; what is wanted is finite."""
    job = build(made_up(world_doom_one_call, tmp_path / "tokenizer"), tmp_path / "run", torch.device("cpu"))
    batch, config = job.data.batch(0), job.method.config.replace(solver=solver, own_context=None, recentre=False)
    told = {}
    for calls in (1, 2, 5):
        method = config.replace(calls=calls).build()
        method.pair.regression = lambda model, clips, made, wanted, rngs: told.update(clips=clips, wanted=wanted)
        method.config = method.config.replace(mean_weight=0.0)
        method.step(job.model, batch, [Rng(0, int(number)) for number in batch.number])
        layout = method.pair.clips.layout
        moved = (told["wanted"] != told["clips"].x).any(-1)
        assert (
            torch.equal(moved, (layout.row_step >= 0)[layout.row].expand_as(moved)) and told["wanted"].isfinite().all()
        )


def test_a_student_learns_the_end_and_not_the_mean():
    torch.manual_seed(0)
    student, solver = Line(), AdamsBashforthConfig().build()
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    for step in range(2000):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * 0.5 * (1 + math.cos(math.pi * step / 2000))
        x = torch.randn(256, 1)
        loss = (student(x, torch.ones_like(x)) - ends(solver, x, [1.0, 0.75, 0.0])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.linspace(-2, 2, 64)[:, None]
    noise = torch.ones_like(x)
    with torch.no_grad():
        want = ends(solver, x, [1.0, 0.75, 0.0])
        assert (student(x, noise) - want).abs().max() < 0.05
        assert (posterior_mean(x, noise) - want).abs().max() > 0.3


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
