"""Chains of betas against closed forms: data that are one Gaussian, whose answers are known exactly."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.objectives.diffusion import AncestralConfig, Betas, DDIMConfig, DiffusionConfig, data_of, noised
from vidar.orders.frame import frame_order
from vidar.rng import Rng
from vidar.types import Past, Target

NONE = Past({}, {})
MEAN, STD, COUNT = 0.6, 0.5, 20_000
CHAIN = Betas.linear(1000, 1e-4, 0.02)


def gaussian_noise(x, alpha_bar, mean=MEAN, std=STD):
    """E[e | x_k] where x0 ~ N(mean, std^2)."""
    return (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * mean) / (alpha_bar * std**2 + 1 - alpha_bar)


def exact_answer(objective, step, x):
    """e and v of data N(MEAN, STD^2): the step back of this chain is a Gaussian, and its variance lies between both."""
    chain, n = objective.chain, objective.config.steps - 1 - step
    a, of_data = chain.alpha_bar[n], chain.mean_weights(n)[0]
    left = STD**2 * (1 - a) / (a * STD**2 + 1 - a)  # Var(x0 | x_k)
    own = chain.beta[n] * (1 - chain.before[n]) / (1 - a)
    low, high = float(chain.least[n]), float(chain.beta[n].log())
    share = (math.log(float(own + of_data**2 * left)) - low) / (high - low) if n else 0.5
    assert -1e-9 <= share <= 1 + 1e-9  # Improved DDPM, section 3.1
    return torch.cat([gaussian_noise(x, a), torch.full_like(x, 2 * share - 1)], -1)


def sampled(config, answer, channels=COUNT):
    """One frame of one site and `channels` numbers."""
    _, grid = frame_order(1, 1, 1)
    objective = config.build(channels, grid, torch.float64)
    x = objective.start(0, NONE, Rng(3))
    for step in range(config.steps):
        x = objective.update(0, x, answer(objective, step, objective.inputs(0, x, step)[:, :-1]), step, Rng(3))
    return objective.finish(x)


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_ancestral_samples_of_a_gaussian_are_exact_in_any_number_of_steps(steps):
    """Mean and deviation within 4 standard errors, and what the ends lose: sqrt(a_T) of the mean and variance at the
    noisy end, the noise of k = 0 at the other."""
    made = sampled(DiffusionConfig(steps=steps), exact_answer)
    ends = 2 * float(CHAIN.alpha_bar[-1].sqrt())
    assert abs(float(made.mean()) - MEAN) < 4 * STD / COUNT**0.5 + ends
    assert abs(float(made.std()) - STD) < 4 * STD / (2 * COUNT) ** 0.5 + ends


def test_twin_a_fixed_variance_is_wrong_in_few_steps():
    """v = 1, the variance of beta, which is right for data N(0, 1): too wide here; v = -1: too narrow."""

    def fixed(v):
        return lambda o, step, x: torch.cat([exact_answer(o, step, x)[..., : x.shape[-1]], torch.full_like(x, v)], -1)

    assert abs(float(sampled(DiffusionConfig(steps=5), fixed(1.0)).std()) - STD) > 0.02
    assert abs(float(sampled(DiffusionConfig(steps=5), fixed(-1.0)).std()) - STD) > 0.02


@pytest.mark.parametrize(("eta", "steps", "allowed"), [(0.0, 100, 0.02), (1.0, 250, 0.02)])
def test_ddim_samples_of_a_gaussian(eta, steps, allowed):
    """allowed: the error of so many steps, beside what `test_ancestral` allows."""
    made = sampled(DiffusionConfig(steps=steps, sampler=DDIMConfig(eta=eta)), exact_answer)
    assert abs(float(made.mean()) - MEAN) < allowed and abs(float(made.std()) - STD) < allowed


def test_ddim_of_eta_0_is_eulers_step_of_the_flow_of_probability():
    """d(x / sqrt(a)) = e d(sqrt((1 - a) / a)) (DDIM, eq. 14); and it draws nothing."""
    chain, n = CHAIN.respaced(20), 7
    x, noise = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    a, after = chain.alpha_bar[n], chain.before[n]
    moved = DDIMConfig().build().step(x, noise, noise, n, chain, lambda: pytest.fail("drawn"))
    expected = x / a.sqrt() + noise * (((1 - after) / after).sqrt() - ((1 - a) / a).sqrt())
    torch.testing.assert_close(moved / after.sqrt(), expected, rtol=1e-12, atol=1e-12)


def test_ddim_of_eta_1_is_the_ancestral_step_at_the_least_variance():
    """The same mean, and the variance of q(x_{k-1} | x_k, x0), v = -1."""
    chain, x = CHAIN.respaced(20), torch.randn(2, 3, dtype=torch.float64)
    noise, drawn = torch.randn_like(x), torch.randn_like(x)
    for n in (1, 9, 19):
        steps = [c.build().step(x, noise, -torch.ones_like(x), n, chain, lambda: drawn)
                 for c in (AncestralConfig(), DDIMConfig(eta=1.0))]  # fmt: skip
        torch.testing.assert_close(*steps, rtol=1e-10, atol=1e-10)


def test_a_respaced_chain_keeps_both_ends_and_the_whole_is_itself():
    whole, few = CHAIN.respaced(1000), CHAIN.respaced(10)
    torch.testing.assert_close(whole.beta, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), rtol=1e-9, atol=0)
    assert few.time.tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    assert torch.equal(few.alpha_bar, CHAIN.alpha_bar[few.time])
    assert CHAIN.respaced(1).time.tolist() == [999]


def test_the_bound_is_the_divergence_of_two_normals():
    """In bits, against torch.distributions with both means written out; at k = 0 a density."""
    _, grid = frame_order(1, 1, 1)
    objective = DiffusionConfig().build(4, grid, torch.float64)
    generator = torch.Generator().manual_seed(0)
    x0, e, e_hat, v = (torch.randn(1, 4, generator=generator, dtype=torch.float64) for _ in range(4))
    for k in (0, 1, 30, 999):
        a, x = CHAIN.alpha_bar[k], noised(x0, e, CHAIN.alpha_bar[k])
        of_data, of_x = CHAIN.mean_weights(k)
        q = Normal(of_data * x0 + of_x * x, CHAIN.least[k].mul(0.5).exp())
        p = Normal(of_data * data_of(x, e_hat, a) + of_x * x, CHAIN.log_variance(k, v).mul(0.5).exp())
        by_hand = kl_divergence(q, p) if k else -p.log_prob(x0)
        made = objective.bound(e_hat, v, e, torch.tensor([k]))
        torch.testing.assert_close(made, by_hand.mean(-1) / math.log(2), rtol=1e-9, atol=1e-9)


def test_the_bound_is_least_at_the_variance_that_the_sampler_needs():
    """Over the data of one k, along v: the mean of the bound is least at the v of the exact answer."""
    _, grid = frame_order(1, 1, 1)
    objective = DiffusionConfig(steps=1000).build(COUNT, grid, torch.float64)
    generator, k = torch.Generator().manual_seed(1), 3
    x0 = MEAN + STD * torch.randn(1, COUNT, generator=generator, dtype=torch.float64)
    e = torch.randn(1, COUNT, generator=generator, dtype=torch.float64)
    answer = exact_answer(objective, 999 - k, noised(x0, e, CHAIN.alpha_bar[k]))
    best = float(answer[0, -1])
    curve = {d: float(objective.bound(answer[:, :COUNT], answer[:, COUNT:] + d, e, torch.tensor([k])))
             for d in (-0.1, 0.0, 0.1)}  # fmt: skip
    assert -1 < best < 1 and curve[0.0] < min(curve[-0.1], curve[0.1])


def test_the_loss_learns_the_mean_by_the_square_and_the_variance_by_the_bound_alone():
    _, grid = frame_order(1, 1, 1)
    objective = DiffusionConfig().build(3, grid, torch.float64)
    out = torch.randn(1, 2, 6, dtype=torch.float64, requires_grad=True)
    target = Target(torch.cat([torch.randn(1, 2, 3), torch.tensor([[[5.0], [700.0]]])], -1).double(), torch.ones(1, 2))
    mean, variance = torch.autograd.grad(objective.loss(out, target).total, out)[0].chunk(2, -1)
    square = (out[..., :3].detach() - target.value[..., :3]) * 2 / 6
    torch.testing.assert_close(mean, square)
    assert bool((variance != 0).all())
    unasked = Target(target.value, torch.tensor([[1.0, 0.0]]))
    assert not torch.autograd.grad(objective.loss(out, unasked).total, out)[0][0, 1].any()


def test_prepare_noises_each_row_at_its_own_step_and_commits_clean():
    order, grid = frame_order(1, 2, 3)
    objective = DiffusionConfig().build(2, grid, torch.float64)
    layout = compile_layout(twin(range(3)), order, [grid])
    codes = torch.randn(2, 6, 2, dtype=torch.float64)
    rngs = [Rng(0, 0), Rng(0, 1)]
    seen, target, _ = objective.prepare(codes, layout, rngs)
    assert torch.equal(seen[:, :6, :2], codes) and not seen[:, :6, 2].any() and not target.weight[:, :6].any()
    for b, rng in enumerate(rngs):
        for u in range(3):
            where = slice(6 + 2 * u, 8 + 2 * u)
            k = int(target.value[b, where.start, 2])
            assert k == round(float(objective.training_levels([u], [rng])) * 1000)
            e = objective.noise(u, rng)
            assert torch.equal(target.value[b, where, :2], e)
            x = noised(codes[b, 2 * u : 2 * u + 2], e, CHAIN.alpha_bar[k])
            torch.testing.assert_close(seen[b, where], torch.cat([x, torch.full((2, 1), k / 1000)], -1).double())
    levels = set(objective.training_levels([0], [Rng(0, n) for n in range(200)])[:, 0].tolist())
    assert min(levels) < 0.05 and max(levels) > 0.95 and len(levels) > 150


def test_more_steps_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="steps 20 exceed the 10"):
        DiffusionConfig(steps=20, count=10).build(1, frame_order(1, 1, 1)[1])
