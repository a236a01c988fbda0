"""What nobody reads is not computed: answers of asked rows, and all gradients, are those of the whole forward."""

import pytest
import torch

from vidar.core.grid import frame_grid, table_grid
from vidar.core.layout import Layout, compile_layout
from vidar.core.order import Order
from vidar.core.relation import Relation, own, window
from vidar.core.step import Row, single, twin
from vidar.nn import asked
from vidar.nn.asked import Reading, asking, read_rows
from vidar.nn.backbone import BackboneConfig
from vidar.nn.block import SharedModulationConfig
from vidar.nn.convolution import ConvEmbedConfig, ConvHeadConfig
from vidar.nn.embed import LevelConfig
from vidar.nn.heads import LinearHeadConfig
from vidar.nn.mixers import CrossAttentionConfig, SelfAttentionConfig
from vidar.types import MEMORY, QUERY, Cond

FRAMES, H, W, WIDTH = 5, 2, 2, 24
WINDOW = Relation(window(2), capacity=2 * H * W)


def frames(rows=None, relations=None, padding=None):
    grid = frame_grid(H, W, FRAMES)
    grid = grid if padding is None else grid.padded(padding)
    return compile_layout(rows or twin(range(FRAMES)), Order(relations or {"main": WINDOW}, num_units=FRAMES), [grid])


def unequal():
    """Units of 3, 1, 2, 3 and 1 sites."""
    unit = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 4])
    coord = torch.stack([unit, torch.arange(10), torch.zeros(10)], -1).double()
    order = Order({"main": Relation(window(2))}, num_units=FRAMES)
    return compile_layout(twin(range(FRAMES)), order, [table_grid(("t", "y", "x"), unit, unit, coord)])


def shuffled():
    """Asked rows among others, so that neither are neighbours; unit 3 is not asked, and 4 stands once."""
    rows = [(0, MEMORY, None), (1, QUERY, 0), (1, MEMORY, None), (2, QUERY, 0), (3, MEMORY, None), (4, MEMORY, 0)]
    return frames(tuple(Row(*row) for row in rows))


FOLDED = {"space": Relation(own, fold=("t",)), "main": Relation(window(2), fold=("y", "x"))}
BOTH = (SelfAttentionConfig(relation="space"), SelfAttentionConfig(relation="main"))
CONV = {"rows": H, "columns": W, "patch": 1, "channels": 6, "depth": 1}
CASES = {
    "frames": (frames, {}),
    "read twice": (frames, {"mixers": (SelfAttentionConfig(), SelfAttentionConfig())}),
    "text last": (frames, {"mixers": (SelfAttentionConfig(), CrossAttentionConfig()), "memory_width": 7}),
    "text first": (frames, {"mixers": (CrossAttentionConfig(), SelfAttentionConfig()), "memory_width": 7}),
    "pictures": (frames, {"embed": ConvEmbedConfig(**CONV), "head": ConvHeadConfig(**CONV, std=0.3)}),
    "one map for all": (frames, {"modulation": SharedModulationConfig()}),
    "one block": (frames, {"depth": 1}),
    "folds": (lambda: frames(relations=FOLDED), {"mixers": BOTH}),
    "unequal": (unequal, {}),
    "shuffled": (shuffled, {}),
    "padded": (lambda: frames(padding=torch.arange(FRAMES * H * W) % 7 == 1), {}),
}


def network(**changes):
    torch.manual_seed(0)
    base = BackboneConfig(
        width=WIDTH, depth=2, heads=2, head_width=12, in_width=5, out_width=3, level=LevelConfig(num_frequencies=8),
        head=LinearHeadConfig(std=0.3), gate_std=0.3,
    )  # fmt: skip
    net = base.replace(**changes).build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net


def given(layout, memory=0):
    """Inputs, and every port."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    text = draw(2, 3, memory) if memory else None
    ports = Cond(draw(2, layout.num_rows, WIDTH), draw(2, layout.num_slots, WIDTH), text)
    inputs = draw(2, layout.num_slots, 5)
    inputs[..., -1] = torch.rand(2, layout.num_rows, generator=generator, dtype=torch.float64)[:, layout.row]
    return inputs, ports


def passed(net, layout: Layout, weight):
    """Answers, and the gradients of what is asked by all parameters, inputs and ports."""
    inputs, ports = given(layout, net.config.memory_width)
    leaves = [inputs.requires_grad_(), *(part.requires_grad_() for part in vars(ports).values() if part is not None)]
    out = net(inputs, layout, ports)
    parameters = list(net.parameters())
    return out, torch.autograd.grad((out * weight).sum(), [*parameters, *leaves], allow_unused=True)


@pytest.mark.parametrize("name", CASES)
def test_answers_and_gradients_are_those_of_the_whole(name):
    make, changes = CASES[name]
    layout, net = make(), network(**changes)
    is_asked = (layout.row_step >= 0)[layout.row]
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(2, layout.num_slots, 3, generator=generator, dtype=torch.float64) * is_asked[:, None]
    whole, exact = passed(net, layout, weight)
    out, grads = passed(net, asking(layout), weight)
    assert (out - whole)[:, is_asked].abs().max() <= 1e-12 and whole[:, ~is_asked].abs().min() > 0
    assert not out[:, ~is_asked].any()
    for got, want in zip(grads, exact, strict=True):
        assert (got is None) == (want is None) and (got is None or (got - want).abs().max() <= 1e-11)


def widths(net, layout):
    """Slots that the embedding, each block's MLP and the head compute, [B] aside."""
    seen = []
    parts = [net.embed, *(block.mlp for block in net.blocks), net.head]
    hooks = [part.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1:-1].numel())) for part in parts]
    inputs, ports = given(layout)
    net(inputs, layout, ports)
    for hook in hooks:
        hook.remove()
    return seen


def test_what_nobody_reads_is_left_out():
    """The commit of the last frame throughout, that of the others after the last block's keys and values."""
    layout, net = frames(), network(depth=3)
    assert widths(net, layout) == [40] * 5
    assert widths(net, asking(layout)) == [36, 36, 36, 20, 20]
    assert read_rows(layout).tolist() == [True] * 4 + [False] + [True] * 5
    assert widths(net, asking(shuffled())) == [24, 24, 24, 12, 12]


def test_who_is_read_by_those_who_are_read_stays():
    """Frame 1 sees only frame 0, and frame 4 only frame 1."""
    sees = torch.zeros(5, 5, dtype=torch.bool)
    sees[1, 0] = sees[4, 1] = True
    relation = Relation(lambda q, k: sees[q.clamp(min=0), k.clamp(min=0)] & (q >= 0) & (k >= 0))
    rows = (*(Row(unit, MEMORY, None) for unit in range(4)), Row(4, QUERY, 0))
    assert read_rows(frames(rows, {"main": relation})).tolist() == [True, True, False, False, True]


def test_who_is_read_in_any_of_several_relations_stays():
    """By one, frame 4 reads frame 1, by the other only itself; whichever is named first."""
    far, near = ("far", Relation(lambda q, k: k == q - 3)), ("near", Relation(own))
    rows = (*(Row(unit, MEMORY, None) for unit in range(4)), Row(4, QUERY, 0))
    for relations in ((far, near), (near, far)):
        assert read_rows(frames(rows, dict(relations))).tolist() == [False, True, False, False, True]


def test_where_all_or_none_are_asked_all_is_computed():
    assert Reading.of(frames(single(range(FRAMES)))) is None
    assert Reading.of(frames(tuple(Row(unit, MEMORY, None) for unit in range(FRAMES)))) is None


def test_frames_hidden_for_one_batch_are_not_hidden_for_the_next():
    """`with_keep` gives layouts of one memo."""
    layout, net = frames(), network()
    asks, is_asked = asking(layout), (layout.row_step >= 0)[layout.row]
    inputs, ports = given(layout)
    for seed in (0, 1, None):
        drawn = torch.rand(2, FRAMES, FRAMES, generator=torch.Generator().manual_seed(seed or 0)) < 0.5
        keep = None if seed is None else drawn | torch.eye(FRAMES, dtype=torch.bool)
        got, want = (net(inputs, which.with_keep(keep), ports)[:, is_asked] for which in (asks, layout))
        assert (got - want).abs().max() <= 1e-12


def test_a_layout_is_read_once():
    made, layout = [], asking(frames())
    original = Reading.of
    try:
        asked.Reading.of = lambda layout: made.append(layout) or original(layout)
        assert asked.reading(layout) is asked.reading(layout) and len(made) == 1
    finally:
        asked.Reading.of = original
    assert asked.reading(frames()) is None
