"""The contract of numerics: bfloat16 outside, float32 inside, each against float64 within what the formats allow."""

import pytest
import torch

from vidar.core.grid import frame_grid
from vidar.core.layout import compile_layout
from vidar.core.order import Order
from vidar.core.relation import Relation, window
from vidar.core.step import twin
from vidar.nn.attention import ExplicitConfig, SDPAConfig, planned
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig
from vidar.nn.heads import LinearHeadConfig
from vidar.nn.norm import modulate, rms_norm
from vidar.nn.rope import AxialRopeConfig, rotate
from vidar.nn.runs import Group
from vidar.nn.slices import SlicesConfig, by_slices
from vidar.objectives.diffusion import AncestralConfig, DDIMConfig, DiffusionConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.prediction import DataConfig, VelocityConfig
from vidar.objectives.steppers import (
    AdamsBashforthConfig,
    DPMSolverConfig,
    EulerConfig,
    EulerMaruyamaConfig,
    HeunConfig,
    RenoiseConfig,
)
from vidar.rng import Rng
from vidar.types import Past

HALF, SINGLE = 2**-8, 2**-24  # largest relative error of rounding to bfloat16 and to float32


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def within(got, exact, inside):
    """One rounding to bfloat16 at the end; before it only `inside`, the error of float32. Returns whether it holds."""
    return bool(((got.double() - exact).abs() <= HALF * exact.abs() + inside).all())


def test_rotation_is_rounded_once():
    """Where both products nearly cancel, tables in bfloat16 are wrong by far more than the result allows."""
    x = draw(2, 40, 3, 64).bfloat16()
    coords = torch.randint(0, 200, (40, 3), generator=torch.Generator().manual_seed(1)).double()
    rope = AxialRopeConfig().build(("t", "y", "x"), 64)
    (cos, sin), (wide_cos, wide_sin) = rope(coords, torch.float32), rope(coords, torch.float64)
    low, high = x.double().chunk(2, -1)
    one, other = x.double() * wide_cos[None, :, None], torch.cat([-high, low], -1) * wide_sin[None, :, None]
    exact, terms = one + other, one.abs() + other.abs()
    got = rotate(x, cos[None], sin[None])
    assert got.dtype == torch.bfloat16 and within(got, exact, 4 * SINGLE * terms)
    rounded = rotate(x, cos[None].bfloat16().float(), sin[None].bfloat16().float())
    assert not within(rounded, exact, 4 * SINGLE * terms)  # twin: the tables were bfloat16


def rms(x):
    """x / rms(x) in float64."""
    return x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()


def test_norms_are_rounded_once():
    """The sum of 64 squares in float32 is off by 64 roundings at most."""
    width, x = 64, (3 + draw(20, 64)).bfloat16()
    weight, shift, scale = draw(width, seed=1).float(), draw(20, width, seed=2).float(), draw(20, width, seed=3).float()
    inside = (width + 4) * SINGLE
    assert within(rms_norm(x), rms(x), inside * rms(x).abs())
    gained = rms(x) * weight.double()
    assert within(rms_norm(x, weight), gained, inside * gained.abs())
    grown = rms(x) * (1 + scale.double())
    exact = grown + shift.double()
    got = modulate(x, shift, scale)
    assert got.dtype == torch.bfloat16 and within(got, exact, inside * (grown.abs() + shift.abs()))
    narrow = modulate(x, shift.bfloat16(), scale.bfloat16())  # 1 + scale is rounded before it is used, once more
    grown = rms(x) * (1 + scale.bfloat16().double())
    exact = grown + shift.bfloat16().double()
    assert within(narrow, exact, (HALF + inside) * (grown.abs() + shift.abs()))


def test_levels_reach_their_waves_unrounded():
    """cos(1000 s): a level in bfloat16 is wrong by up to 2 radians. Angles in float32 are wrong by 1000 roundings."""
    torch.manual_seed(0)
    embed, level, seen = LevelConfig().build(32).bfloat16(), torch.linspace(0, 1, 77)[None] ** 2, []
    embed.first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    embed(level)
    angles = 1000 * level.double()[..., None] * 10000.0 ** (-torch.arange(128, dtype=torch.float64) / 128)
    assert seen[0].dtype == torch.bfloat16
    assert within(seen[0], torch.cat([angles.cos(), angles.sin()], -1), 1000 * 8 * SINGLE)


def network():
    config = BackboneConfig(
        width=24, depth=2, heads=2, head_width=12, in_width=4, out_width=3, level=LevelConfig(num_frequencies=8),
        step_size=LevelConfig(num_frequencies=8), head=LinearHeadConfig(std=0.3), gate_std=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    return config.build()


def frames():
    order = Order({"main": Relation(window(2))}, num_units=3)
    return compile_layout(twin(range(3)), order, [frame_grid(2, 2, 3)])


def test_a_network_in_bfloat16_keeps_levels_and_answers_wide():
    """What it is told of level and step size, its rotary tables and its answer are float32; the rest is bfloat16."""
    net, layout, told = network().bfloat16(), frames(), []
    for part in (net.level, net.step_size):
        part.register_forward_pre_hook(lambda module, args: told.append(args[0]))
    inputs = draw(2, layout.num_slots, 5).float()
    inputs[..., -2:] = torch.rand(2, layout.num_rows, 2, generator=torch.Generator().manual_seed(3))[:, layout.row]
    out = net(inputs[..., 1:], layout)
    for column, part in zip((-1, -2), told, strict=True):
        assert part.dtype == torch.float32 and torch.equal(part, inputs[:, layout.row_start, column])
    assert {x.dtype for x in net.tables(layout, inputs.device)} == {torch.float32} and out.dtype == torch.float32


@pytest.mark.parametrize("form", [ExplicitConfig(), SDPAConfig(), SlicesConfig()], ids=lambda f: type(f).__name__)
def test_attention_in_bfloat16_is_that_of_float64(form):
    """Logits of size L are rounded with their query and once more: exp is off by 2 L roundings; so are weights, out."""
    view = frames().views["main"]
    q, k, v = (draw(2, view.q.cell.shape[1], 2, 32, seed=n).bfloat16() for n in range(3))
    exact = planned(ExplicitConfig(), view, q.device, False)(q.double(), k.double(), v.double())
    logits = torch.einsum("bske,btke->bkst", q.double(), k.double()).abs().max() / 32**0.5
    got = planned(form, view, q.device, False)(q, k, v)
    assert got.dtype == torch.bfloat16
    assert (got.double() - exact).abs().max() <= HALF * (2 * logits + 2) * v.double().abs().max()


def test_the_backward_of_slices_adds_its_rows_in_float32():
    """Two keys of equal weight, all numbers exact: do v' = 128 and 129, sum(do o) = 128.5, which bfloat16 has not."""
    q, k = torch.zeros(1, 1, 1, 4), torch.tensor([[8.0, 16, 24, 32], [16, 8, 32, 24]])[None, :, None]
    v = torch.tensor([[32.0, 32, 32, 32], [32, 32, 32, 33]])[None, :, None]
    q, k, v = (x.bfloat16().requires_grad_() for x in (q, k, v))
    out = by_slices([Group((0, 1), ((0, 2),))])(q, k, v)
    assert out[0, 0, 0].tolist() == [32, 32, 32, 32.5]
    out.backward(torch.ones(1, 1, 1, 4, dtype=torch.bfloat16))
    # dS = 1/2 (do v' - 128.5) / sqrt(4) = -1/8 and 1/8; dq = dS k, dk = dS q = 0, dv = 1/2
    assert q.grad[0, 0, 0].tolist() == [1, -1, 1, -1]
    assert not k.grad.any() and v.grad.flatten().tolist() == [0.5] * 8


def test_the_backward_of_slices_adds_its_groups_in_float32():
    """600 groups read one key with weight 1: dv = 600, where a sum in bfloat16 stops at 256."""
    q, k, v = (torch.ones(1, n, 1, 4).bfloat16().requires_grad_() for n in (600, 1, 1))
    out = by_slices([Group((n, n + 1), ((0, 1),)) for n in range(600)])(q, k, v)
    out.backward(torch.ones_like(out))
    assert v.grad.flatten().tolist() == [600] * 4 and not k.grad.any()


STEPPERS = [EulerConfig(), HeunConfig(), AdamsBashforthConfig(), RenoiseConfig(), DPMSolverConfig(),
            EulerMaruyamaConfig()]  # fmt: skip


def flows():
    for stepper in STEPPERS:
        for prediction in (VelocityConfig(), DataConfig()):
            yield FlowConfig(steps=4, shift=2.0, stepper=stepper, prediction=prediction)


def chains():
    return [DiffusionConfig(steps=4, count=9, first=0.1, last=0.3, sampler=sampler)
            for sampler in (AncestralConfig(), DDIMConfig(), DDIMConfig(eta=1.0))]  # fmt: skip


def walked(config):
    """In float32, x after each call of the objective, and the answers of a network in bfloat16: functions of x."""
    objective, rng, made, answers = config.build(3, frame_grid(2, 2)), Rng(5), [], []
    x = objective.start(0, Past({}, {}), rng)
    for call in range(len(objective.calls)):
        answers.append(torch.sin(3 * objective.finish(x).repeat(1, objective.output_width // 3)).bfloat16())
        x = objective.update(0, x, answers[-1], call, rng)
        made.append(objective.finish(x))
    return made, answers


def flowed(config, answers):
    """x after each call in float64, by the stepper alone."""
    objective, rng, history, made = config.build(3, frame_grid(2, 2), torch.float64), Rng(5), None, []
    x = objective.noise(0, rng)
    for call, out in enumerate(answers):
        level, noise = objective.calls[call], rng.normal("renoise", 0, call, x.shape)
        v = out.double() if isinstance(config.prediction, VelocityConfig) else (x - out.double()) / level
        x, history = objective.stepper.update(x, v, call, objective.levels, history, lambda n=noise: n, 0)
        made.append(x)
    return made


def stepped(config, answers):
    """The same of a chain of betas, by its sampler alone."""
    objective, rng, made = config.build(3, frame_grid(2, 2), torch.float64), Rng(5), []
    x = objective.noise(0, rng)
    for call, out in enumerate(answers):
        noise = rng.normal("renoise", 0, call, x.shape)
        place = len(answers) - 1 - call
        x = objective.sampler.step(x, *out.double().chunk(2, -1), place, objective.chain, lambda n=noise: n)
        made.append(x)
    return made


def parts(config):
    used = [config.stepper, config.prediction] if isinstance(config, FlowConfig) else [config.sampler]
    return " ".join(type(part).__name__.removesuffix("Config") for part in used)


@pytest.mark.parametrize("config", [*flows(), *chains()], ids=parts)
def test_samplers_move_in_float32(config):
    """The walk of float64 under the same answers: 16 roundings a call of the largest number until then."""
    single, answers = walked(config)
    double = (flowed if isinstance(config, FlowConfig) else stepped)(config, answers)
    for n, (got, exact) in enumerate(zip(single, double, strict=True)):
        assert got.dtype == torch.float32
        largest = max(float(x.abs().max()) for x in double[: n + 1])
        assert (got.double() - exact).abs().max() <= 16 * (n + 1) * SINGLE * max(largest, 1)
