"""One map of modulation for all blocks: equal to own maps that are copies of it with own biases."""

import torch

from vidar.core.layout import compile_layout
from vidar.core.step import single
from vidar.nn.backbone import BackboneConfig
from vidar.nn.block import Modulation, SharedModulationConfig
from vidar.nn.mixers import CrossAttentionConfig, SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig
from vidar.orders.scale import scale_order
from vidar.types import Cond

CONFIG = BackboneConfig(
    width=8, depth=3, heads=2, head_width=4, in_width=3, out_width=5, memory_width=6,
    mixers=(SelfAttentionConfig(), CrossAttentionConfig()), rope=AxialRopeConfig(axes=("s", "y")),
)  # fmt: skip


def build(config):
    torch.manual_seed(0)
    made = config.build().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def test_it_is_own_modulation_with_one_weight_and_own_biases():
    shared, own = build(CONFIG.replace(modulation=SharedModulationConfig())), build(CONFIG)
    known = {n: p for n, p in shared.state_dict().items() if n in own.state_dict()}
    own.load_state_dict(known, strict=False)
    with torch.no_grad():
        for number, block in enumerate(own.blocks):
            theirs = [m for m in shared.blocks[number].modules() if isinstance(m, Modulation)]
            ours = [m for m in block.modules() if isinstance(m, Modulation)]
            assert len(ours) == len(theirs) == 3
            for mine, other in zip(ours, theirs):
                mine.map.weight.copy_(shared.modulation.map.weight[other.columns])
                mine.map.bias.copy_(shared.modulation.map.bias[other.columns] + other.offset)
    order, grid = scale_order([(1, 1, 1), (1, 2, 2)])
    layout = compile_layout(single([0, 1]), order, [grid])
    inputs, modulation = torch.randn(2, 5, 3).double(), torch.randn(2, layout.num_rows, 8).double()
    cond = Cond(modulation=modulation, memory=torch.randn(2, 4, 6).double())
    a, b = shared(inputs, layout, cond), own(inputs, layout, cond)
    assert (a - b).abs().max() < 1e-12 * b.abs().max()
    one, two = (net.features(inputs, layout, cond, [0, 2]) for net in (shared, own))
    assert all(torch.allclose(x, y, atol=1e-11) for x, y in zip(one, two))


def test_it_starts_as_the_identity_and_has_one_map():
    net = CONFIG.replace(modulation=SharedModulationConfig()).build()
    parts = [m for m in net.blocks.modules() if isinstance(m, Modulation)]
    assert len(parts) == 9 and all(not m.offset.any() for m in parts) and not net.modulation.map.weight.any()
    assert net.modulation.map.out_features == 9 * 8  # shift, scale and gate of three sublayers
    assert {m.columns.start for m in parts} == {0, 24, 48}
    plain = sum(p.numel() for p in CONFIG.build().parameters())
    saved = 2 * 9 * 8 * 8 + 2 * 9 * 8  # the maps and biases of two blocks
    assert plain - sum(p.numel() for p in net.parameters()) == saved - 3 * 9 * 8
