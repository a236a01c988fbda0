"""Continuous consistency: the tangent, its norm and its zero in closed form; a trained student; a tiny world."""

import math

import pytest
import torch
from gaussian import MEAN, STD, Line, annealed, trig_at, trig_student, trig_teacher
from made_up import made_up

from vidar.configs.students import world_doom_scm
from vidar.model.load import load
from vidar.objectives.trigflow import level_of, trigflow
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.methods.continuous_consistency import (
    Difference,
    DifferenceConfig,
    ForwardMode,
    ForwardModeConfig,
    tangent,
    tangent_loss,
)


@pytest.fixture
def points():
    """(x, t) [64, 1] float64 on paths of the flow, and which."""
    generator = torch.Generator().manual_seed(0)
    time = 0.05 + 1.5 * torch.rand(64, 1, dtype=torch.float64, generator=generator)
    z = torch.randn(64, 1, dtype=torch.float64, generator=generator)
    return trig_at(time, z), time, z


def line(seed=0):
    torch.manual_seed(seed)
    return Line().double()


def tangent_of(student, x, time, ratio=1.0, derivative=None, teacher=trig_teacher):
    slope = teacher(x, time)
    with torch.no_grad():
        change = (derivative or ForwardMode())(student, x, time, slope)
    return tangent(change, slope, x, ratio)


def test_the_tangent_is_the_change_of_the_answer_along_the_exact_path(points):
    """g = cos t df/dt, f = cos t x - sin t F(x, t) on the closed form of the path, by central differences."""
    _, time, z = points
    student = line()

    def answer(t):
        x = trig_at(t, z)
        return t.cos() * x - t.sin() * student(x, t)

    with torch.no_grad():
        wanted = time.cos() * (answer(time + 1e-5) - answer(time - 1e-5)) / 2e-5
    torch.testing.assert_close(tangent_of(student, points[0], time), wanted, rtol=0, atol=1e-8)
    assert wanted.abs().max() > 0.1


def test_the_exact_consistency_function_has_no_tangent(points):
    x, time, _ = points
    assert tangent_of(trig_student, x, time).abs().max() < 1e-12
    assert tangent_of(trig_teacher, x, time).abs().max() > 0.1


def test_both_derivatives_agree_to_first_order(points):
    """The error of the difference halves with its size."""
    x, time, _ = points
    exact, errors = tangent_of(line(), x, time), []
    for size in (1e-3, 5e-4):
        errors.append(float((tangent_of(line(), x, time, derivative=Difference(size)) - exact).abs().max()))
    assert 1.9 < errors[0] / errors[1] < 2.1 and errors[1] < 1e-2 * float(exact.abs().max())


def test_the_difference_is_that_of_the_answers_at_both_ends_of_an_arc(points):
    """cos t' (f(x, t) - f(x', t')) / sin h, t' = t - h: x' is x turned by h in the plane of x and F_T."""
    x, time, _ = points
    student, h = line(), torch.tensor(0.02, dtype=torch.float64)
    later = time - h
    moved = h.cos() * x - h.sin() * trig_teacher(x, time)
    with torch.no_grad():
        answers = [t.cos() * at - t.sin() * student(at, t) for at, t in ((x, time), (moved, later))]
    wanted = later.cos() * (answers[0] - answers[1]) / h.sin()
    torch.testing.assert_close(tangent_of(student, x, time, derivative=Difference(0.02)), wanted, rtol=0, atol=1e-12)


def test_warm_up_goes_from_plain_distillation_to_the_tangent(points):
    """r = 0: -cos t (F - F_T). Where both agree, only the second term is left, and it grows with r."""
    x, time, _ = points
    student = line()
    with torch.no_grad():
        wanted = -time.cos() * (student(x, time) - trig_teacher(x, time))
    torch.testing.assert_close(tangent_of(student, x, time, 0.0), wanted)
    torch.testing.assert_close(tangent_of(trig_teacher, x, time, 0.25), 0.25 * tangent_of(trig_teacher, x, time))
    whole, first = tangent_of(student, x, time), wanted * time.cos()  # r = 1: cos^2 t
    between = wanted * (1 - (0.25 * time.sin()) ** 2).sqrt() + 0.25 * (whole - first)
    torch.testing.assert_close(tangent_of(student, x, time, 0.25), between)
    method = made_method(warmup_steps=8)
    assert [float(method.ratio(torch.tensor(n))) for n in (0, 2, 8, 100)] == [0.0, 0.25, 1.0, 1.0]
    assert float(made_method(warmup_steps=0).ratio(torch.tensor(0))) == 1.0


def test_the_gradient_vanishes_at_the_exact_student_and_nowhere_near(points):
    """F = F* + theta x: zero at theta = 0; beside it, descent leads back."""
    x, time, _ = points
    row = torch.zeros(64, dtype=torch.long)
    gradients = {}
    for start in (-0.3, 0.0, 0.3):
        theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        g = tangent_of(lambda x, t, theta=theta: trig_student(x, t) + theta.detach() * x, x, time)
        made = trig_student(x, time) + theta * x
        tangent_loss(made[None], g[None], row, 1).sum().backward()
        gradients[start] = float(theta.grad)
    assert abs(gradients[0.0]) < 1e-9 and gradients[-0.3] < -0.1 and gradients[0.3] > 0.1


def test_every_frame_is_normalised_by_itself():
    """Frames of 2 and 3 slots; the loss of a frame is (n / (n + 0.1))^2, n its norm, its gradient -2 g / (n + 0.1)."""
    row = torch.tensor([0, 0, 1, 1, 1])
    g = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g[:, 2:] *= 1000
    made = torch.zeros_like(g, requires_grad=True)
    loss = tangent_loss(made, g, row, 2)
    norms = torch.stack([g[:, :2].flatten(1).norm(dim=1), g[:, 2:].flatten(1).norm(dim=1)], 1)
    torch.testing.assert_close(loss, (norms / (norms + 0.1)) ** 2)
    loss.sum().backward()
    torch.testing.assert_close(made.grad, -2 * g / (norms + 0.1)[:, row, None])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["g", "made"])
def test_a_frame_that_is_not_finite_counts_as_zero_and_spoils_no_other(value, where):
    row = torch.tensor([0, 0, 1, 1])
    tensors = {name: torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)) for name in ("g", "made")}
    whole = tangent_loss(tensors["made"], tensors["g"], row, 2)
    tensors[where][1, 2, 0] = value
    made = tensors["made"].requires_grad_()
    loss = tangent_loss(made, tensors["g"], row, 2)
    assert loss[1, 1] == 0 and torch.equal(loss[0], whole[0]) and torch.equal(loss[1, 0], whole[1, 0]) and whole.all()
    loss.sum().backward()
    assert made.grad.isfinite().all() and (made.grad[1, 2:] == 0).all() and made.grad[1, :2].any()


def test_a_student_of_a_perfect_teacher_learns_the_flow_and_not_its_mean():
    """Tolerance: a fifth of what a student that only repeats its teacher gets wrong, root mean square over paths."""
    torch.manual_seed(0)
    student = Line()
    row = torch.arange(256)

    def loss():
        time = torch.atan(torch.exp(1.6 * torch.randn(256, 1))).clamp(0.02, math.pi / 2 - 1e-3)
        x = trig_at(time, torch.randn(256, 1))
        g = tangent_of(student, x, time)
        return tangent_loss(student(x, time)[None], g[None], row, 256).mean()

    annealed(student, 1500, loss)
    with torch.no_grad():
        z = torch.linspace(-2, 2, 64)[:, None]
        for angle in (0.8, 1.2, math.pi / 2):
            time = torch.full((64, 1), angle)
            x = trig_at(time, z)
            answers = (time.cos() * x - time.sin() * net(x, time) for net in (student, trig_teacher))
            ours, repeated = ((answer - MEAN - STD * z).square().mean().sqrt() for answer in answers)
            assert ours < 0.2 * repeated, (angle, ours, repeated)


def learned(anchor):
    """Error of a student that says x0 over that of one that repeats its teacher, at t = pi / 2, after 1,200 steps."""
    torch.manual_seed(0)
    student, row = Line(), torch.arange(256)
    said = trigflow(lambda x, level: (x - student(x, level)) / level)

    def loss():
        time = torch.atan(torch.exp(1.6 * torch.randn(256, 1))).clamp(0.02, math.pi / 2 - 1e-3)
        x = trig_at(time, torch.randn(256, 1))
        g = tangent_of(said, x, time, torch.where(time < anchor, 0.0, 1.0), Difference(0.02))
        return tangent_loss(said(x, time)[None], g[None], row, 256).mean()

    annealed(student, 1200, loss)
    with torch.no_grad():
        z = torch.linspace(-2, 2, 64)[:, None]
        error = student(z, torch.ones(64, 1)) - MEAN - STD * z
        return float(error.square().mean().sqrt() / (STD * z).square().mean().sqrt())


def test_a_student_that_says_x0_needs_its_anchor():
    """What does not change along a path is the answer only where one end of the path is held."""
    assert learned(anchor=0.1) < 0.2 and learned(anchor=0.0) > 0.5


def made_method(**changes):
    return world_doom_scm(preset="tiny").method.replace(**changes).build()


def test_times_are_those_of_a_log_normal_ratio_and_every_frame_has_its_own():
    """n = 400 clips x 10 rows: mean, deviation and correlation of neighbours within 5 standard errors."""
    method = made_method(mean=0.4, std=1.6)
    drawn = method.times([Rng(0, video) for video in range(400)]).tan().log()
    count = drawn.numel()
    assert drawn.shape == (400, 10)
    assert abs(drawn.mean() - 0.4) < 5 * 1.6 / math.sqrt(count)
    assert abs(drawn.std() - 1.6) < 5 * 1.6 / math.sqrt(2 * count)
    assert abs(torch.corrcoef(drawn.T)[0, 1]) < 5 / math.sqrt(400)
    assert torch.equal(drawn[7:8], method.times([Rng(0, 7)]).tan().log())


def test_forward_mode_through_the_network_of_a_world(tmp_path, one_thread):
    """In float64, on a clip in two copies: explicit attention is the same network; both derivatives agree."""
    job = build(made_up(world_doom_scm, tmp_path / "tokenizer"), tmp_path, torch.device("cpu"))
    method, batch = job.method, job.data.batch(0)
    rngs = [Rng(1, number) for number in batch.number.tolist()]
    rows = method.times(rngs).clamp(0.1, 1.5)
    clips = method.pair.noised(job.model.net, batch, rngs, level_of(rows))
    net, teacher = job.model.net.double(), method.teacher.net.double()
    time = clips.slots(rows).double()
    x = clips.x.double() * (time.cos() + time.sin())
    explicit = ForwardMode().network(net)
    with torch.no_grad():
        inputs = clips.inputs(x, level_of(time))
        whole = net(inputs, method.pair.clips.layout, clips.actions)
        torch.testing.assert_close(explicit(inputs, method.pair.clips.layout, clips.actions), whole)
        student = trigflow(clips.velocity(explicit))
        slope = trigflow(clips.velocity(teacher))(x, time)
        forms = [ForwardModeConfig(), DifferenceConfig(size=2e-5), DifferenceConfig(size=1e-5)]
        exact, *other = (tangent(form.build()(student, x, time, slope), slope, x, 1.0) for form in forms)
        exact, *other = (g[clips.weight > 0] for g in (exact, *other))
        errors = [float((g - exact).abs().max()) for g in other]  # levels are embedded by waves of up to 1,000 radians
    assert 1.8 < errors[0] / errors[1] < 2.2 and errors[1] < 1e-2 * float(exact.abs().max())


def test_a_student_begins_as_its_teacher_learns_and_is_written(tmp_path, one_thread):
    job = build(made_up(world_doom_scm, tmp_path / "tokenizer"), tmp_path / "run", torch.device("cpu"))
    before = {name: value.clone() for name, value in job.method.teacher.net.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in job.model.net.state_dict().items())
    made = [train_step(job, job.data.batch(index), 1e-3) for index in range(4)]
    assert all(math.isfinite(float(value.detach())) for values in made for value in values.values())
    assert int(job.model.steps) == 4
    assert made[0]["consistency"].detach() < 1e-6 < made[1]["consistency"]  # r = 0: nothing to learn of itself yet
    assert all(torch.equal(value, before[name]) for name, value in job.method.teacher.net.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in job.model.net.state_dict().items())
    job.method.export(job.model, tmp_path / "student")
    half = {name: value.to(torch.bfloat16).float() for name, value in job.model.net.state_dict().items()}
    written = load(tmp_path / "student", dtype=torch.float32).net.state_dict()
    assert written.keys() == half.keys() and all(torch.equal(value, half[name]) for name, value in written.items())


@pytest.mark.parametrize("derivative", [ForwardModeConfig(), DifferenceConfig()])
def test_the_anchor_and_the_precision_of_a_step(derivative, tmp_path, one_thread):
    """Below it a student that is its teacher has nothing to learn; bf16 around a step does not touch the tangent."""
    job = build(made_up(world_doom_scm, tmp_path / "tokenizer"), tmp_path, torch.device("cpu"))
    batch, losses = job.data.batch(0), {}
    rngs = [Rng(1, number) for number in batch.number.tolist()]
    for anchor in (0.0, 2.0):
        changes = {"anchor": anchor, "warmup_steps": 0, "derivative": derivative}
        method = job.method.config.replace(own_context=None, **changes).build()
        losses[anchor] = method.step(job.model, batch, rngs).parts
        with torch.autocast("cpu", torch.bfloat16):
            halved = method.step(job.model, batch, rngs).parts
        assert torch.equal(halved["tangent"], losses[anchor]["tangent"])
    assert losses[2.0]["tangent"] < 1e-3 and losses[0.0]["tangent"] > 0.1
    assert losses[2.0]["consistency"] < 1e-3 and losses[0.0]["consistency"] > 0.1
