import math

import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.step import single, twin
from vidar.objectives.context import CleanConfig
from vidar.objectives.flow import FlowConfig, shift
from vidar.objectives.hint import NoHintConfig, PreviousHintConfig
from vidar.objectives.prediction import DataConfig, VelocityConfig
from vidar.objectives.steppers import AdamsBashforthConfig, EulerConfig, HeunConfig
from vidar.orders.frame import frame_order
from vidar.rng import Rng
from vidar.types import Past, Target

NONE = Past({}, {})


def solve(config, velocity, x1):
    """Walk an objective's passes with a known velocity field v(x, s)."""
    _, grid = frame_order(1, 1, 1)
    flow = config.build(1, grid, torch.float64)
    x = flow.start(0, NONE, Rng(0))._replace(x=torch.full((1, 1), x1, dtype=torch.float64))
    for i in range(len(flow.passes) - 1):
        inputs = flow.inputs(0, x, i)
        x = flow.update(0, x, velocity(inputs[:, :1], float(inputs[0, -1])), i, Rng(0))
    return float(flow.finish(x)[0, 0]), flow


@pytest.mark.parametrize("stepper", [EulerConfig(), HeunConfig(), AdamsBashforthConfig()])
def test_straight_paths_are_solved_exactly(stepper):
    """v = e - x0 is constant on a straight path: any number of steps ends at x0."""
    for steps in (1, 3):
        end, _ = solve(FlowConfig(steps=steps, stepper=stepper, shift=2.5), lambda x, s: torch.full_like(x, 4.0), 1.0)
        assert abs(end - (1.0 - 4.0)) < 1e-12


def test_order_of_convergence():
    """dx/ds = x from s = 1 to 0: x0 = x1 / e. Halving the step halves Euler's error and quarters Heun's."""

    def error(stepper, steps):
        return abs(solve(FlowConfig(steps=steps, stepper=stepper), lambda x, s: x, 1.0)[0] - math.exp(-1))

    assert 1.8 < error(EulerConfig(), 32) / error(EulerConfig(), 64) < 2.2
    # the last step of Heun is Euler, of order h^2 once: second order in all
    assert 3.4 < error(HeunConfig(), 32) / error(HeunConfig(), 64) < 4.6
    assert 3.4 < error(AdamsBashforthConfig(), 32) / error(AdamsBashforthConfig(), 64) < 4.6


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_adams_bashforth_of_a_slope_that_grows(share):
    """dx/ds = s: Euler is off by the sum of h^2 / 2; the term mends all but that of the first step."""
    config = FlowConfig(steps=4, shift=3.0, stepper=AdamsBashforthConfig(extrapolation=share))
    end, flow = solve(config, lambda x, s: torch.full_like(x, s), 1.0)
    off = [(a - b) ** 2 / 2 for a, b in zip(flow.levels, flow.levels[1:])]
    assert end - (1.0 - 0.5) == pytest.approx(-off[0] - (1 - share) * sum(off[1:]), abs=1e-12)


def test_the_share_of_adams_bashforth_rises_with_the_unit():
    """As 1 - exp(-u / rise): in unit 0 it is Euler, far on the whole term."""
    levels, x, v, before = [1.0, 0.5, 0.0], torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])
    rising, whole = (AdamsBashforthConfig(extrapolation=0.8, rise=rise).build() for rise in (5.0, None))
    for unit in (0, 1, 7, 10_000):
        moved = [s.update(x, v, 1, levels, before, lambda: x, unit)[0] for s in (rising, whole, EulerConfig().build())]
        assert torch.allclose(moved[0] - moved[2], (1 - math.exp(-unit / 5)) * (moved[1] - moved[2]))


def test_heun_asks_twice_but_for_the_last_step():
    _, flow = solve(FlowConfig(steps=3, stepper=HeunConfig()), lambda x, s: x, 1.0)
    assert flow.calls == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_shift_closed_form():
    assert shift(0.5, 3.0) == pytest.approx(0.75) and shift(0.0, 3.0) == 0 and shift(1.0, 3.0) == 1


def test_levels_are_logit_normal():
    """n = 4,000: median sigmoid(mean) within 5 standard errors of a normal's median, 1.2533 std / sqrt(n)."""
    _, grid = frame_order(1, 1, 1)
    flow = FlowConfig(mean=0.7, std=0.8).build(1, grid)
    n = flow.training_levels([0], [Rng(0, v) for v in range(4000)]).logit()
    assert abs(float(n.median()) - 0.7) < 5 * 1.2533 * 0.8 / math.sqrt(4000)
    assert abs(float(n.std()) - 0.8) < 5 * 0.8 / math.sqrt(8000)


def test_loss_counts_asked_slots_only():
    _, grid = frame_order(1, 1, 2)
    flow = FlowConfig().build(2, grid)
    out, value = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [100.0, 100.0]]])
    assert float(flow.loss(out, Target(value, torch.tensor([[1.0, 0.0]]))).total) == 5.0


@pytest.mark.parametrize("rows", [twin(range(3)), single(range(3))])
def test_prepare_draws_do_not_depend_on_the_batch(rows):
    order, grid = frame_order(2, 2, 3)
    flow, layout = FlowConfig().build(2, grid, torch.float64), compile_layout(rows, order, [grid])
    codes = torch.randn(2, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both, target, _ = flow.prepare(codes, layout, [Rng(0, 7), Rng(0, 8)])
    alone, _, _ = flow.prepare(codes[1:], layout, [Rng(0, 8)])
    assert torch.equal(both[1:], alone) and not torch.equal(both[:1, :, -1], both[1:, :, -1])
    assert int(target.weight[0].sum()) == 12


def test_data_prediction_is_the_same_flow():
    """A model that knows x0 walks the same path, whether it says v or x0 - hint; the targets say so too."""
    _, grid = frame_order(1, 2, 2)
    for hint in (NoHintConfig(), PreviousHintConfig()):
        ends = []
        for prediction in (VelocityConfig(), DataConfig()):
            config = FlowConfig(steps=4, stepper=HeunConfig(), hint=hint, prediction=prediction)
            flow = config.build(3, grid, torch.float64)
            past = Past({0: torch.full((2, 3), 0.7, dtype=torch.float64)}, {})
            clean = torch.tensor([[0.1, -0.4, 2.0], [0.3, 0.2, 0.1]], dtype=torch.float64)
            x = flow.start(1, past, Rng(4))
            noise = x.x
            for i in range(len(flow.passes) - 1):
                out = flow.prediction.target(clean, noise, x.hint)
                x = flow.update(1, x, out, i, Rng(4))
            ends.append(flow.finish(x))
            torch.testing.assert_close(ends[-1], clean, rtol=0, atol=1e-12)
        torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-12)


def test_a_silent_data_model_repeats_the_frame_before():
    _, grid = frame_order(1, 2, 2)
    config = FlowConfig(steps=3, hint=PreviousHintConfig(), prediction=DataConfig(), context=CleanConfig())
    flow, code = config.build(3, grid, torch.float64), torch.randn(2, 3, dtype=torch.float64)
    x = flow.start(1, Past({0: code}, {}), Rng(1))
    for i in range(3):
        x = flow.update(1, x, torch.zeros(2, 3, dtype=torch.float64), i, Rng(1))
    torch.testing.assert_close(flow.finish(x), code, rtol=0, atol=1e-12)


def test_share_of_context_levels():
    """p = 0.4 of 4,000 levels come from U(0, 0.3); logit-normal(4, 0.1) never falls below 0.9."""
    _, grid = frame_order(1, 1, 1)
    flow = FlowConfig(mean=4.0, std=0.1, p_context=0.4).build(1, grid)
    levels = flow.training_levels([0], [Rng(0, v) for v in range(4000)])
    low = levels < 0.5
    assert abs(float(low.double().mean()) - 0.4) < 5 * math.sqrt(0.24 / 4000)
    assert abs(float(levels[low].mean()) - 0.15) < 5 * 0.3 / math.sqrt(12 * 1600)


@pytest.mark.parametrize("prediction", [VelocityConfig(), DataConfig()])
@pytest.mark.parametrize("hint", [NoHintConfig(), PreviousHintConfig()])
def test_estimate_of_the_right_answer_is_the_data(prediction, hint):
    order, grid = frame_order(1, 2, 4)
    flow = FlowConfig(prediction=prediction, hint=hint).build(3, grid, torch.float64)
    codes = torch.randn(2, 8, 3, dtype=torch.float64)
    layout = compile_layout(single(range(4)), order, [grid])
    seen, target, _ = flow.prepare(codes, layout, [Rng(0, 1), Rng(0, 2)])
    assert torch.allclose(flow.estimate(seen, target.value), codes)


def test_other_context_changes_what_is_seen_of_earlier_units_only():
    """Twins with clean context: commits and hints come from it, x in flight and its data do not."""
    order, grid = frame_order(1, 2, 3)
    flow = FlowConfig(hint=PreviousHintConfig(), context=CleanConfig()).build(2, grid, torch.float64)
    codes = torch.randn(1, 6, 2, dtype=torch.float64)
    layout = compile_layout(twin(range(3)), order, [grid])
    seen, target, _ = flow.prepare(codes, layout, [Rng(0)])
    other, moved, _ = flow.prepare(codes, layout, [Rng(0)], context=codes + 5)
    commits = layout.row_step[layout.row] < 0
    late = layout.slots.unit[0] > 0
    assert torch.allclose(other[:, commits, :2], seen[:, commits, :2] + 5)
    assert torch.equal(other[:, ~commits, :2], seen[:, ~commits, :2])
    assert torch.allclose(other[:, late, 2:4], seen[:, late, 2:4] + 5) and torch.equal(
        other[:, ~late, 2:4], seen[:, ~late, 2:4]
    )
    assert torch.equal(target.value, moved.value)  # the answer is a velocity: not a matter of the hint


def test_given_units_stand_at_the_level_of_context():
    _, grid = frame_order(1, 1, 4)
    flow = FlowConfig(mean=3.0, given=2).build(1, grid)
    levels = flow.training_levels(range(4), [Rng(0, video) for video in range(200)])
    assert levels[:, :2].max() <= 0.3 < levels[:, 2:].median()
