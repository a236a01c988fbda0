"""The column that says how far an answer is taken: told in every call, 0 where it is the velocity that is asked for."""

import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import LevelConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import PreviousHintConfig
from vidar.objectives.prediction import DataConfig
from vidar.objectives.step_size import ToldConfig
from vidar.objectives.steppers import HeunConfig, RenoiseConfig
from vidar.orders.frame import frame_order
from vidar.rng import Rng
from vidar.types import Past, UsageError

TOLD = FlowConfig(steps=4, shift=3.0, step_size=ToldConfig(), hint=PreviousHintConfig(), prediction=DataConfig())


def test_every_call_is_told_its_own_step():
    """Levels of 4 steps with shift 3: 1, 0.9, 0.75, 0.5, 0; the level stays the last column."""
    _, grid = frame_order(1, 2, 2)
    flow = TOLD.build(3, grid, torch.float64)
    x = flow.start(0, Past({}, {}), Rng(0))
    made = torch.stack([flow.inputs(0, x, call)[0, -2:] for call in range(4)])
    wanted = torch.tensor([[0.1, 1.0], [0.15, 0.9], [0.25, 0.75], [0.5, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(made, wanted)
    assert flow.input_width == 3 + 3 + 1 + 1
    assert (flow.memory(0, torch.ones(2, 3), Past({}, {}), Rng(0))[:, -2] == 0).all()


def test_training_asks_for_the_velocity_and_the_hint_is_where_it_was():
    order, grid = frame_order(1, 2, 3)
    layout = compile_layout(twin(range(3)), order, [grid])
    codes, told = torch.randn(1, 6, 3, dtype=torch.float64), TOLD.build(3, grid, torch.float64)
    untold = TOLD.replace(step_size=FlowConfig().step_size).build(3, grid, torch.float64)
    seen, target, _ = told.prepare(codes, layout, [Rng(3)])
    plain, _, _ = untold.prepare(codes, layout, [Rng(3)])
    assert (seen[..., -2] == 0).all() and torch.equal(torch.cat([seen[..., :-2], seen[..., -1:]], -1), plain)
    assert torch.equal(told.hint_of(seen), plain[..., 3:6])
    asked = (layout.row_step >= 0)[layout.row]
    clean = codes[:, layout.slots.site[0]]
    torch.testing.assert_close(told.estimate(seen, target.value)[:, asked], clean[:, asked])


@pytest.mark.parametrize("stepper", [HeunConfig(), RenoiseConfig()])
def test_a_told_model_plays_with_euler(stepper):
    with pytest.raises(UsageError, match="receives its step size needs EulerConfig"):
        TOLD.replace(stepper=stepper)


def opened(config):
    """A network whose gates are open, in float64."""
    torch.manual_seed(0)
    net = config.build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return net


def test_the_network_hears_the_step_size_and_is_the_same_without_it():
    order, grid = frame_order(1, 2, 3)
    layout = compile_layout(twin(range(3)), order, [grid])
    config = BackboneConfig(width=16, depth=2, heads=2, head_width=8, in_width=5, out_width=3, level=LevelConfig())
    told = config.replace(in_width=6, step_size=LevelConfig())
    assert told.columns == config.columns == 4
    net, plain = opened(told), config.build().double()
    extra = {"step_size.first.weight", "step_size.first.bias", "step_size.second.weight", "step_size.second.bias"}
    assert net.state_dict().keys() - plain.state_dict().keys() == extra
    inputs = torch.rand(1, layout.num_slots, 6, dtype=torch.float64)
    other = inputs.clone()
    other[:, :2, -2] += 0.25  # the commit of frame 0, which all read but frame 0 in flight
    moved = (net(inputs, layout) - net(other, layout)).abs().amax(-1)[0] > 1e-9
    assert moved.tolist() == [True] * 6 + [False] * 2 + [True] * 4
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if name not in extra})
    net.step_size.second.weight.data.zero_(), net.step_size.second.bias.data.zero_()
    without = torch.cat([inputs[..., :-2], inputs[..., -1:]], -1)
    torch.testing.assert_close(net(inputs, layout), plain(without, layout))


def test_features_are_what_leaves_the_blocks():
    order, grid = frame_order(1, 2, 3)
    layout = compile_layout(twin(range(3)), order, [grid])
    net = opened(BackboneConfig(width=16, depth=3, heads=2, head_width=8, in_width=4, out_width=3))
    inputs = torch.randn(2, layout.num_slots, 4, dtype=torch.float64)
    kept = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: kept.append(out.flatten(1, 2)))
    net(inputs, layout)
    whole = list(kept)
    found = net.features(inputs, layout, None, (0, 1))
    assert len(kept) == 3 + 2  # nothing after the last
    assert len(found) == 2 and torch.equal(found[0], whole[0]) and torch.equal(found[1], whole[1])
    assert not torch.equal(found[0], found[1])
