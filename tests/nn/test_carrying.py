"""A mixer with a state of fixed size: eager, as a function of static shapes, and in one forward, all the same."""

import torch

from vidar.cache.list import ListState
from vidar.cache.ring import RingState
from vidar.core.layout import compile_layout
from vidar.core.step import Row
from vidar.nn.backbone import BackboneConfig
from vidar.nn.mixers import SelfAttentionConfig
from vidar.nn.mixers.self_attention import SelfAttention
from vidar.nn.static import StaticBackbone
from vidar.orders.frame import frame_order
from vidar.types import MEMORY


class SumConfig(SelfAttentionConfig):
    """Attention, and a decaying sum of all slots so far."""

    def build(self, width, heads, head_width, memory_width, gate_std, layer):
        return Sum(self.relation, width, heads, head_width, gate_std, layer)


class Sum(SelfAttention):
    """Every call here commits all of its slots, in order."""

    def forward(self, x, rows, call):
        mixed = super().forward(x, rows, call)
        held = None if call.state is None else call.state.carry("sum", self.layer)
        total, read = x.new_zeros(len(x), x.shape[-1]) if held is None else held, []
        for slot in x.flatten(1, 2).unbind(1):
            total = 0.7 * total + slot
            read.append(total)
        if call.state is not None:
            call.state.put("sum", self.layer, total)
        return mixed + torch.stack(read, 1).view_as(x)


def network():
    torch.manual_seed(0)
    config = BackboneConfig(
        width=16, depth=2, heads=2, head_width=6, in_width=3, out_width=4, mixers=(SumConfig(),), gate_std=0.3
    )
    return config.build().double().eval()


@torch.no_grad()
def rollout(model, net, state, order, grid, frames=5):
    outs = []
    for frame in range(frames):
        layout = compile_layout([Row(frame, MEMORY, None)], order, [grid], [0], state.held())
        inputs = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(frame), dtype=torch.float64)
        state.begin(layout, inputs)
        outs.append(model(inputs, layout, None, state))
        state.end(None)
    return torch.cat(outs, 1)


def test_eager_static_and_one_forward_agree():
    net = network()
    order, grid = frame_order(1, 2, 5)
    made = RingState.create(order, [grid] * 2, net.ring_shapes(), torch.float64)
    eager = rollout(net, net, made, order, grid)
    static = StaticBackbone(net, lambda module, example: module)
    other = RingState.create(order, [grid] * 2, net.ring_shapes(), torch.float64)
    functional = rollout(net, net, ListState.create(["main"], 2), order, grid)
    for found in (rollout(static, net, other, order, grid), functional):
        torch.testing.assert_close(found, eager, rtol=0, atol=1e-12)
    assert {key: value.shape for key, value in other.carried().items()} == {("sum", n): (2, 16) for n in (0, 1)}
    whole = compile_layout([Row(frame, MEMORY, None) for frame in range(5)], order, [grid])
    draws = [torch.Generator().manual_seed(frame) for frame in range(5)]
    inputs = torch.cat([torch.randn(2, 2, 3, generator=g, dtype=torch.float64) for g in draws], 1)
    with torch.no_grad():
        torch.testing.assert_close(net(inputs, whole), eager, rtol=0, atol=1e-12)
