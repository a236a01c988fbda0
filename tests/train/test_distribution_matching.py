"""Distribution matching: closed forms, a student that finds both modes, whose gradients go where, what is kept."""

import math
from dataclasses import replace

import pytest
import torch
from gaussian import MEAN, STD, annealed, posterior_mean
from made_up import made_up
from torch import nn

from vidar.configs.self_forcing import world_doom_self_forcing
from vidar.model.load import load
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.memory import training_bytes
from vidar.train.methods.adversary import AdversaryConfig
from vidar.train.methods.distribution_matching import (
    MatchingConfig,
    matching_gradient,
    matching_loss,
    velocity_error,
)
from vidar.train.methods.world import SingleConfig

EVERY = 3  # critic steps for one of the student
MODES, WIDTH = torch.tensor([-1.0, 1.0]), 0.25


def normal_mean(mean, deviation):
    """What a perfect network answers about data N(mean, deviation^2), and the log density of its noised form."""

    def answer(x, level):
        share = (1 - level) * deviation**2 / ((1 - level) ** 2 * deviation**2 + level**2)
        return mean + share * (x - (1 - level) * mean)

    def density(x, level):
        spread = ((1 - level) ** 2 * deviation**2 + level**2).sqrt()
        return torch.distributions.Normal((1 - level) * mean, spread).log_prob(x)

    return answer, density


def drawn(count, generator=None, dtype=torch.float32):
    """Levels and noise [1, count, 1]."""
    level = torch.rand(1, count, 1, generator=generator, dtype=dtype).clamp(0.02, 0.98)
    return level, torch.randn(1, count, 1, generator=generator, dtype=dtype)


def test_the_gradient_is_the_difference_of_the_scores_of_two_normals():
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    level = torch.rand(2, 6, 1, generator=generator, dtype=torch.float64).clamp(0.05, 0.95)
    weight = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]], dtype=torch.float64)
    (real, p), (fake, q) = normal_mean(0.7, 0.5), normal_mean(-0.2, 0.8)
    x = ((1 - level) * made + level * noise).detach().requires_grad_()
    score_p, score_q = (torch.autograd.grad(density(x, level).sum(), x)[0] for density in (p, q))
    want = torch.zeros_like(made)
    for b in range(2):
        counts = weight[b] > 0
        size = (made - real(x, level))[b, counts].abs().mean()
        want[b, counts] = (level**2 / (1 - level) * (score_q - score_p))[b, counts] / size
    matching_loss(made, real, fake, level, noise, weight).backward()
    torch.testing.assert_close(made.grad, want.detach() / (3 * weight.sum()))


def test_nothing_moves_where_both_networks_agree():
    made = torch.randn(2, 4, 3, requires_grad=True)
    level, noise, weight = torch.full((2, 4, 1), 0.5), torch.randn(2, 4, 3), torch.ones(2, 4)
    loss = matching_loss(made, posterior_mean, posterior_mean, level, noise, weight)
    loss.backward()
    assert loss == 0 and not made.grad.any()
    exact = made.detach()  # a size of 0
    assert not matching_gradient(exact, exact, exact, weight).any()
    assert not matching_gradient(exact, exact, exact + 1, weight).any()


def test_a_normal_student_becomes_the_normal_of_its_teacher():
    """b + a z with the critic that is exact for it: where both agree no noise is left, so the end is exact."""
    torch.manual_seed(0)
    student, weight = nn.ParameterList([torch.tensor([-1.0, 1.5])]), torch.ones(1, 256)

    def loss():
        mean, deviation = student[0]
        fake, _ = normal_mean(mean.detach(), deviation.detach())
        return matching_loss(mean + deviation * torch.randn(1, 256, 1), posterior_mean, fake, *drawn(256), weight)

    annealed(student, 600, loss, lr=3e-2)
    assert student[0].tolist() == pytest.approx([MEAN, STD], abs=1e-3)


def test_the_critic_learns_the_velocity_of_what_is_made():
    """Of x alone among all functions, E[v | x] has the least error: any step away from it costs its square."""
    generator = torch.Generator().manual_seed(0)
    made = MEAN + STD * torch.randn(1, 200_000, 1, generator=generator)
    level, noise = drawn(200_000, generator)

    def away(amount):
        def velocity(x, level):
            return (x - posterior_mean(x, level)) / level + amount

        return float(velocity_error(velocity, made, level, noise).square().mean())

    least = away(0.0)
    slack = 5 * 2 * 0.2 * math.sqrt(least / 200_000)  # five deviations of the mean of 2 * amount * error
    assert all(abs(away(amount) - least - amount**2) < slack for amount in (0.2, -0.2))


def mixture_mean(x, level):
    """E[x0 | x_s] of two narrow modes."""
    variance = (1 - level) ** 2 * WIDTH**2 + level**2
    off = x - (1 - level) * MODES
    share = (-(off**2) / (2 * variance)).softmax(-1)
    return (share * (MODES + (1 - level) * WIDTH**2 / variance * off)).sum(-1, keepdim=True)


def small(columns):
    layers = [nn.Linear(columns, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)]
    return nn.Sequential(*layers)


def test_a_student_finds_both_modes_where_a_squared_error_finds_the_middle():
    """Variance 1 + 0.25^2. Bounds: a tenth of what the squared error misses; |x| < 0.4 holds 30 % of a normal."""
    torch.manual_seed(0)
    student, critic, plain, weight = small(1), small(2), small(1), torch.ones(1, 128)
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in ((student, 2e-3), (critic, 3e-3))]
    optimizer = torch.optim.Adam(groups, betas=(0.0, 0.999))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 2000)

    def fake(x, level):
        return critic(torch.cat([x, level], -1))

    for step in range(2000):
        with torch.set_grad_enabled(step % 2 == 1):
            made = student(torch.randn(1, 128, 1))
        level, noise = drawn(128)
        error = velocity_error(lambda x, s: (x - fake(x, s)) / s, made, level, noise)
        total = (error * level).square().mean()
        if step % 2 == 1:
            total = total + matching_loss(made, mixture_mean, fake, *drawn(128), weight)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()

    def squared():
        data = MODES[torch.randint(2, (128, 1))] + WIDTH * torch.randn(128, 1)
        return (plain(torch.randn(128, 1)) - data).square().mean()

    annealed(plain, 400, squared)
    with torch.no_grad():
        z = torch.randn(20_000, 1)
        x, middle = student(z), plain(z)
    assert abs(x.mean()) < 0.1 and abs(x.var() - 1 - WIDTH**2) < 0.1
    assert (x.abs() < 0.4).float().mean() < 0.2
    assert middle.var() < 0.1 and (middle.abs() < 0.4).float().mean() > 0.9


def job_of(folder, objective=None, **changes):
    """The recipe on two clips, its student due in every third step."""
    config = made_up(world_doom_self_forcing, folder / "tokenizer")
    data = config.data.replace(like=config.data.like.replace(batch=2))
    matching, world = config.method.matching.replace(critic_steps=EVERY), config.method.world
    changes["world"] = world if objective is None else world.replace(objective=objective)
    config = config.replace(data=data, method=config.method.replace(matching=matching, **changes))
    return build(config, folder / "run", torch.device("cpu"))


def advance(job, index):
    values = train_step(job, job.data.batch(index), 1e-3)
    job.counters.cursor += 1
    job.counters.step += 1
    return values


def handed(job):
    """What a step in which the student is due hands over: clips, codes of all slots with their gradient, Rngs."""
    method, model, batch, found = job.method, job.model, job.data.batch(0), []
    rngs = [Rng(0, number) for number in batch.number.tolist()]
    terms = method.matching.terms

    def noted(clips, made, teacher, critic, given, due):
        assert teacher is method.teacher.net and critic is model.critic and due
        assert [(rng.seed, rng.video) for rng in given] == [(0, 0), (0, 1)]
        found.append((clips, made))
        return terms(clips, made, teacher, critic, given, due)

    method.matching.terms = noted
    model.steps.fill_(EVERY - 1)
    method.step(model, batch, rngs)
    method.matching.terms = terms
    ((clips, made),) = found
    return clips, made, rngs


def start_noise(job, rngs):
    """The noise that every slot's rollout begins with."""
    flow, order = job.method.flow, job.method.order
    noise = [torch.cat([flow.noise(unit, rng) for unit in range(order.num_units)]) for rng in rngs]
    return torch.stack(noise)[:, job.method.pair.clips.layout.slots.site[0]]


def test_the_scores_see_the_context_that_the_student_saw(tmp_path, one_thread):
    """Asked from the student's own noise, its network answers with the frames of its rollout."""
    objective = world_doom_self_forcing(preset="tiny").method.world.objective.replace(steps=1)
    job = job_of(tmp_path, objective=objective)
    with torch.no_grad():
        for parameter in job.model.net.parameters():  # answers that hang on what is seen
            parameter.add_(torch.randn_like(parameter) * 0.05)
    clips, made, rngs = handed(job)
    rows = torch.ones(2, job.method.pair.clips.layout.num_rows)
    answer = clips.data(job.model.net)(start_noise(job, rngs), clips.slots(rows))
    asked = clips.weight[0] > 0
    assert int(asked.sum()) == len(job.method.sites)
    assert (answer - made)[:, asked].detach().abs().max() < 1e-5
    assert (answer - made)[:, ~asked].detach().abs().max() > 1e-2


def test_where_frames_stand_once_the_given_ones_stand_at_the_level_of_context(tmp_path, one_thread):
    job = job_of(tmp_path, stream=SingleConfig())
    clips, *_ = handed(job)
    level, new = clips.seen[..., -1], clips.weight > 0
    assert int(new[0].sum()) == len(job.method.sites) and (level[new] == 1).all()
    assert level[~new].unique().tolist() == pytest.approx([job.method.config.world.objective.context.level])


def test_the_loss_is_on_the_new_frames_of_the_student_alone(tmp_path, one_thread):
    """A teacher and a critic that each say one number: the gradient is their difference over the size of the error."""
    job = job_of(tmp_path)
    clips, made, rngs = handed(job)

    def saying(value):
        return lambda inputs, layout, actions: value - job.method.flow.hint_of(inputs)

    terms = job.method.matching.terms(clips, made, saying(0.3), saying(0.5), rngs, True)
    (slope,) = torch.autograd.grad(terms["matching"], made)
    asked = clips.weight[0] > 0
    size = (made[:, asked] - 0.3).abs().mean((1, 2), keepdim=True)
    want = (0.2 / size / made[:, asked].numel()).expand_as(made[:, asked])
    torch.testing.assert_close(slope[:, asked], want.detach())
    assert not slope[:, ~asked].any()
    torch.testing.assert_close(terms["critic"], (made[:, asked] - 0.5).square().mean())


def test_no_term_reaches_the_weights_of_another(tmp_path, one_thread):
    job = job_of(tmp_path)
    student, critic, teacher = job.model.net, job.model.critic, job.method.teacher.net
    advance(job, 0)  # the critic is no longer the teacher
    clips, made, rngs = handed(job)
    terms = job.method.matching.terms(clips, made, teacher, critic, rngs, True)

    def reached(term):
        job.model.zero_grad()
        terms[term].backward(retain_graph=True)
        parts = {"student": student, "critic": critic, "teacher": teacher}
        return {
            name for name, net in parts.items() if any(p.grad is not None and p.grad.any() for p in net.parameters())
        }

    assert reached("matching") == {"student"}
    assert reached("critic") == {"critic"}
    assert not any(p.requires_grad for p in teacher.parameters())


def test_the_student_moves_in_every_third_step_and_its_critic_in_all(tmp_path, one_thread):
    job = job_of(tmp_path)
    parts = {"student": job.model.net, "critic": job.model.critic, "teacher": job.method.teacher.net}

    def weights():
        return {name: torch.cat([p.detach().flatten() for p in net.parameters()]) for name, net in parts.items()}

    first = weights()
    assert torch.equal(first["student"], first["teacher"]) and torch.equal(first["critic"], first["teacher"])
    moved, kept, before, dream = [], [], first, job.method.dream

    def noted(*given):
        made = dream(*given)
        kept.append(made.requires_grad)
        return made

    job.method.dream = noted
    for index in range(2 * EVERY):
        values, after = advance(job, index), weights()
        moved.append({name for name in parts if not torch.equal(before[name], after[name])})
        assert ("matching" in values) == ("student" in moved[-1])
        torch.testing.assert_close(values["loss"].detach(), values.get("matching", 0) + values["critic"])
        before = after
    assert moved == 2 * [{"critic"}, {"critic"}, {"critic", "student"}]
    assert kept == 2 * [False, False, True]  # a graph only where the student learns


def test_levels_are_those_of_a_clip_and_the_noise_is_no_other(tmp_path, one_thread):
    job = job_of(tmp_path)
    clips, *_ = handed(job)
    term = MatchingConfig(shift=5.0, edge=0.1).build()
    pairs = [("matching_level", "matching_noise"), ("critic_level", "critic_noise")]
    drawn = [term.draw(clips, [Rng(0, 2 * n), Rng(0, 2 * n + 1)], *pairs[0]) for n in range(200)]
    levels = torch.cat([level for level, _ in drawn])
    assert (levels == levels[:, :1]).all() and (levels[:, 0].unique().numel()) > 200
    assert float(levels.min()) == pytest.approx(0.1) and float(levels.max()) == pytest.approx(0.9)
    share = float((levels[:, 0] < 5 / 6).double().mean())  # the shifted middle; 5 deviations of 400 coins
    assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(400)
    rngs = [Rng(0, n) for n in range(2)]
    first, second = (term.draw(clips, rngs, *pair)[1] for pair in pairs)
    start = start_noise(job, rngs)
    for a, b in ((first, second), (first, start), (second, start)):
        assert abs(float((a * b).mean())) < 5 / math.sqrt(start[:, : start.shape[1] // 2].numel())


def test_guidance_leads_away_from_the_answer_without_actions(tmp_path, one_thread):
    job = job_of(tmp_path)
    clips, made, _ = handed(job)
    level, teacher = clips.slots(torch.full((2, job.method.pair.clips.layout.num_rows), 0.5)), job.method.teacher.net
    x = made.detach()
    hidden = replace(clips.actions, unknown=torch.ones_like(clips.actions.unknown))
    known, free = clips.data(teacher)(x, level), replace(clips, actions=hidden).data(teacher)(x, level)
    answers = [MatchingConfig(guidance=w).build().guided(clips, teacher)(x, level) for w in (0.0, 3.0)]
    torch.testing.assert_close(answers[0], known)
    torch.testing.assert_close(answers[1], 4 * known - 3 * free)
    assert (known - free).abs().max() > 1e-3


def test_matching_and_an_adversary_add_up(tmp_path, one_thread):
    adversary = AdversaryConfig(blocks=(0, 1), width=32, start=0, warmup=1)
    job = job_of(tmp_path, adversary=adversary)
    values = [advance(job, index) for index in range(EVERY)]
    parts = [{"critic", "gan", "adversary"}] * (EVERY - 1) + [{"critic", "gan", "adversary", "matching"}]
    for value, names in zip(values, parts, strict=True):
        assert value.keys() == {"loss", "grad_norm", "frames", *names}
        torch.testing.assert_close(value["loss"].detach(), sum(value[name] for name in names))


def test_a_critic_is_kept_with_the_run_and_not_with_the_student(tmp_path, one_thread):
    one = job_of(tmp_path)
    for index in range(EVERY):
        advance(one, index)
    path = one.engine.save(tmp_path / "kept", one.counters)
    other = build(one.config, tmp_path / "other", torch.device("cpu"))
    other.counters = other.engine.load(path)
    for job in (one, other):
        for index in range(EVERY, 2 * EVERY):
            advance(job, index)
    first, second = (job.model.state_dict() for job in (one, other))
    assert any(name.startswith("critic.") for name in first) and first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    one.method.export(one.model, tmp_path / "student")
    known, net = load(tmp_path / "student").net.state_dict(), one.model.net.state_dict()
    assert known.keys() == net.keys()
    assert all(torch.equal(value, net[name].bfloat16().to(value)) for name, value in known.items())


def test_memory_counts_the_critic():
    config = world_doom_self_forcing(preset="tiny")
    count = sum(p.numel() for p in config.method.world.net.build().parameters())
    alone = config.replace(method=config.method.replace(matching=None))
    assert training_bytes(config)["states"] == 2 * 20 * count == 2 * training_bytes(alone)["states"]
    assert training_bytes(config)["activations"] > 1.9 * training_bytes(alone)["activations"]
