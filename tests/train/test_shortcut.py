"""Shortcut models: self-consistency of the exact flow, steps that are asked, what training gains, a tiny world."""

import math
from itertools import islice

import pytest
import torch
from gaussian import MEAN, STD, Line, annealed, at, jump, posterior_mean
from made_up import made_up

from vidar.configs.students import world_doom_shortcut
from vidar.model.load import load
from vidar.objectives.step_size import UntoldConfig
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.methods.shortcut import Interval, intervals, pick, shortcut_target
from vidar.types import UsageError


def mean_velocity(x, level, size):
    """(x - where the flow is `size` nearer to the data) / size; the velocity itself at size 0."""
    there = (x - jump(x, level, level - size)) / torch.where(size > 0, size, 1)
    return torch.where(size > 0, there, (x - posterior_mean(x, level)) / level)


def drawn(count, finest=16, k=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(2, count, 1, dtype=torch.float64, generator=generator)
    return intervals(u[0], u[1], finest, k)


def test_the_exact_flow_is_self_consistent():
    """Any step leads where its halves lead; told size 0, halves are Euler steps, and their error falls fourfold."""
    step = drawn(500)._replace(plain=torch.tensor(False))
    x = at(step.start, torch.randn(500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    exact = mean_velocity(x, step.start, step.start - step.end)
    torch.testing.assert_close(shortcut_target(mean_velocity, x, step), exact, rtol=0, atol=1e-10)
    errors = []
    for size in (0.02, 0.01):
        levels = (torch.tensor([[0.5 - part * size]], dtype=torch.float64) for part in (0, 0.5, 1))
        plain = Interval(*levels, torch.tensor(True))
        x = at(plain.start, torch.ones(1, 1, dtype=torch.float64))
        exact = mean_velocity(x, plain.start, plain.start - plain.end)
        errors.append(float((size * (shortcut_target(mean_velocity, x, plain) - exact)).abs().max()))
    assert 3.8 < errors[0] / errors[1] < 4.2


def test_steps_are_those_of_play():
    """1, 2, 4, .. 16 of them equally often (n = 4,000), as of a solver with shift 3, halved before shifting."""
    step = drawn(4000)
    grids = {n: [3 * (1 - i / n) / (1 + 2 * (1 - i / n)) for i in range(n + 1)] for n in (1, 2, 4, 8, 16, 32)}
    counts = dict.fromkeys((1, 2, 4, 8, 16), 0)
    for start, middle, end, plain in zip(*(part.flatten().tolist() for part in step)):
        n = next(n for n in counts if any(math.isclose(start, a) and abs(end - b) < 1e-12 for a, b in
                 zip(grids[n], grids[n][1:])))  # fmt: skip
        counts[n] += 1
        assert min(abs(middle - level) for level in grids[2 * n]) < 1e-12 and start > middle > end >= 0
        assert plain == (n == 16)
    assert all(abs(count - 800) < 5 * math.sqrt(4000 * 0.2 * 0.8) for count in counts.values())
    starts = step.start[step.plain].unique()
    assert len(starts) == 16 and torch.allclose(starts.flip(0), torch.tensor(grids[16][:-1], dtype=torch.float64))
    assert (drawn(100, finest=1).plain).all() and (drawn(100, finest=1).end == 0).all()


def test_a_trained_shortcut_answers_in_one_step_what_flow_matching_cannot():
    """One step from noise, root mean square over paths: less than a third of the error of flow matching alone."""
    errors = {}
    for share in (0.0, 0.5):
        torch.manual_seed(0)
        net = Line(2)

        def loss(net=net, share=share):
            level = torch.rand(256, 1).clamp_min(0.02)
            clean, noise = MEAN + STD * torch.randn(256, 1), torch.randn(256, 1)
            x = (1 - level) * clean + level * noise
            flow = (net(x, level, 0 * level) - (noise - clean)).square().mean()
            u = torch.rand(2, 256, 1)
            step = intervals(u[0], u[1], 16, 1.0)
            x = (1 - step.start) * clean + step.start * noise
            wanted = shortcut_target(net, x, step)
            return flow + share * (net(x, step.start, step.start - step.end) - wanted).square().mean()

        annealed(net, 1200, loss)
        with torch.no_grad():
            z, one = torch.linspace(-2, 2, 64)[:, None], torch.ones(64, 1)
            answer = z - net(z, one, one if share else 0 * one)  # flow matching knows size 0 alone
            errors[share] = float((answer - MEAN - STD * z).square().mean().sqrt())
    assert errors[0.5] < errors[0.0] / 3, errors


def test_a_world_learns_both_and_plays_any_number_of_steps(tmp_path, one_thread):
    config = made_up(world_doom_shortcut, tmp_path / "tokenizer")
    job = build(config, tmp_path / "run", torch.device("cpu"))
    seen = [train_step(job, job.data.batch(index), 1e-3) for index in range(6)]
    assert all(math.isfinite(float(value.detach())) for values in seen for value in values.values())
    assert {name for values in seen for name in values} >= {"flow", "shortcut"}
    job.method.export(job.model, tmp_path / "world")
    world, codes, actions = load(tmp_path / "world"), torch.randn(1, 2, 20, 32), torch.zeros(1, 1, 5)
    told, forward = [], world.net.backbone.forward
    world.net.backbone.forward = lambda inputs, *rest: (told.append(inputs[0, -1, -2:]), forward(inputs, *rest))[1]
    made = {}
    for steps in (1, 2, 4):
        made[steps] = list(islice(world.codes(codes, iter(actions), rngs=[Rng(0)], steps=steps), 1))[0]
        sizes, levels = torch.stack(told[-steps:]).float().T
        assert abs(float(sizes.sum()) - 1) < 1e-2 and torch.allclose(levels[1:], levels[:-1] - sizes[:-1], atol=1e-2)
    assert not torch.equal(made[1], made[2]) and not torch.equal(made[2], made[4])


def test_the_share_decides_what_a_clip_learns_and_none_is_flow_matching(tmp_path, one_thread):
    """Share 0 is the loss of a plain world; with a share, every clip learns what its own number says."""
    job = build(made_up(world_doom_shortcut, tmp_path / "tokenizer"), tmp_path, torch.device("cpu"))
    batch = job.data.batch(0)
    rngs = [Rng(0, number) for number in batch.number.tolist()]
    plain = job.method.config.replace(share=0.0).build()
    assert torch.equal(plain.step(job.model, batch, rngs).total, plain.clips.step(job.model, batch, rngs).total)
    half = job.method.config.replace(share=0.5, own_context=None).build()
    chosen = [b for b, rng in enumerate(rngs) if float(rng.uniform("consistency_share")) < 0.5]
    rest = [b for b in range(len(rngs)) if b not in chosen]
    assert chosen and rest
    loss = half.step(job.model, batch, rngs)
    parts = {"shortcut": half.consistency(job.model, pick(batch, chosen), [rngs[b] for b in chosen]),
             "flow": half.clips.step(job.model, pick(batch, rest), [rngs[b] for b in rest]).total}  # fmt: skip
    assert {name: float(value) for name, value in loss.parts.items()} == {
        n: float(v.detach()) for n, v in parts.items()
    }
    weighted = (len(chosen) * parts["shortcut"] + len(rest) * parts["flow"]) / len(rngs)
    torch.testing.assert_close(loss.total, weighted)


def test_self_consistency_moves_the_long_step_alone(tmp_path, one_thread):
    """The gradient goes through the step, not through its halves, and given frames are not asked."""
    job = build(made_up(world_doom_shortcut, tmp_path / "tokenizer"), tmp_path, torch.device("cpu"))
    method, batch = job.method.config.replace(own_context=None).build(), job.data.batch(0)
    rngs = [Rng(0, number) for number in batch.number.tolist()]
    calls = []
    forward = job.model.forward
    job.model.forward = lambda *inputs: (calls.append((torch.is_grad_enabled(), inputs[0])), forward(*inputs))[1]
    method.consistency(job.model, batch, rngs).backward()
    assert [grad for grad, _ in calls] == [False, False, True]
    query = (method.layout.row_step >= 0)[method.layout.row]
    first = method.layout.slots.unit[0] == 0
    sizes = [inputs[:, query & ~first, -2] for _, inputs in calls]
    assert (sizes[2] > 0).all() and (sizes[0] < sizes[2]).all()
    assert all((inputs[:, ~query | first, -2] == 0).all() for _, inputs in calls)
    assert torch.equal(calls[0][1][..., -1], calls[2][1][..., -1])
    assert (calls[0][1][:, query & first, -1] <= method.config.world.objective.context.most).all()
    assert (calls[1][1][:, query & ~first, -1] < calls[0][1][:, query & ~first, -1]).all()


def test_all_numbers_of_generations_come_up_whatever_a_clip_learns(tmp_path, one_thread, monkeypatch):
    """Share 0.25, as in the recipe; one of two kinds misses one of three numbers with chance 6 (2/3)^34 < 1e-5."""
    job = build(made_up(world_doom_shortcut, tmp_path / "tokenizer"), tmp_path, torch.device("cpu"))
    own = job.method.config.own_context.replace(share=1.0, generations=3)
    method, made = job.method.config.replace(own_context=own).build(), {"flow": [], "shortcut": []}
    answered, batch, channels = [], pick(job.data.batch(0), [0]), method.clips.flow.channels
    monkeypatch.setattr(job.model, "forward", lambda seen, *rest: 0 * seen[..., :channels])
    monkeypatch.setattr(method.clips, "_answers", lambda net, codes, made, *rest: answered.append(1) or made.float())
    with torch.no_grad():
        for number in range(140):
            answered.clear()
            (kind,) = method.step(job.model, batch, [Rng(0, number)]).parts
            made[kind].append(len(answered))
    assert min(map(len, made.values())) >= 34 and {kind: set(of) for kind, of in made.items()} == {
        "flow": {1, 2, 3},
        "shortcut": {1, 2, 3},
    }


def test_what_is_no_shortcut_is_refused():
    config = world_doom_shortcut(preset="tiny").method
    with pytest.raises(UsageError, match="finest 12 is not a power of two"):
        config.replace(finest=12)
    objective = config.world.objective.replace(step_size=UntoldConfig())
    with pytest.raises(UsageError, match="a shortcut model must receive it"):
        config.replace(world=config.world.replace(objective=objective))
