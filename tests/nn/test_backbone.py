from dataclasses import replace

import pytest
import torch

from vidar.cache.ring import RingState
from vidar.config import from_dict, to_dict
from vidar.core.grid import Grid, frame_grid, table_grid
from vidar.core.layout import Layout, compile_layout
from vidar.core.order import Order
from vidar.core.placement import RingShape
from vidar.core.relation import Relation, own, window
from vidar.core.step import Row, Step, single, twin
from vidar.nn.attention import ExplicitConfig
from vidar.nn.backbone import Backbone, BackboneConfig
from vidar.nn.embed import IndexEmbedConfig, LevelConfig
from vidar.nn.heads import LinearHeadConfig
from vidar.nn.mixers import CrossAttentionConfig, SelfAttentionConfig
from vidar.nn.rope import AxialRopeConfig, MMRopeConfig, NoRopeConfig
from vidar.types import MEMORY, PAD, QUERY, Cond, UsageError

FRAMES, H, W = 5, 2, 2
LENGTH = 3


def frames() -> Order:
    relation = Relation(window(LENGTH), capacity=LENGTH * H * W)
    return Order({"main": relation}, num_units=FRAMES, needs=None)


def config(**changes: object) -> BackboneConfig:
    base = BackboneConfig(
        width=24,
        depth=2,
        heads=2,
        head_width=12,
        in_width=4,
        out_width=3,
        level=LevelConfig(num_frequencies=8),
        rope=AxialRopeConfig(),
        head=LinearHeadConfig(std=0.3),
        gate_std=0.3,
    )
    return base.replace(**changes)


def build(seed: int = 0, **changes: object) -> Backbone:
    torch.manual_seed(seed)
    return config(**changes).build().double()


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs_of(layout: Layout, batch: int = 2, seed: int = 1) -> torch.Tensor:
    """Random channels; one random level per modulation row."""
    x = draw(batch, layout.num_slots, 4, seed=seed)
    level = torch.sigmoid(draw(batch, layout.num_rows, seed=seed + 1))
    x[..., -1] = level[:, layout.row]
    return x


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a - b).abs().max().item() <= 1e-12 * b.abs().max().item()


def rollout(model: Backbone, order: Order, grid: Grid, inputs: dict[tuple[int, int], torch.Tensor]) -> dict:
    """Each frame: one QUERY pass, one commit, with rings; (unit, role) -> out."""
    batch = next(iter(inputs.values())).shape[0]
    shapes = {name: RingShape(*shape) for name, shape in model.ring_shapes().items()}
    state = RingState.create(order, [grid] * batch, shapes, torch.float64)
    outs = {}
    for unit in range(order.num_units or 0):
        for role, step in ((QUERY, 0), (MEMORY, None)):
            rows = (Row(unit, role, step),)
            layout = compile_layout(rows, order, [grid] * batch, [0] * batch, state.held())
            state.begin(layout, inputs[unit, role])
            outs[unit, role] = model(inputs[unit, role], layout, None, state)
            state.end(Step(rows))
    return outs


@pytest.mark.parametrize("attention", [ExplicitConfig(), config().attention])
@torch.no_grad()
def test_rings_equal_one_pass(attention) -> None:
    grid, order = frame_grid(H, W, FRAMES), frames()
    model = build(attention=attention)
    layout = compile_layout(twin(range(FRAMES)), order, [grid])
    x = inputs_of(layout)
    parts = x.split(H * W, dim=1)
    keys = [(u, MEMORY) for u in range(FRAMES)] + [(u, QUERY) for u in range(FRAMES)]
    outs = rollout(model, order, grid, dict(zip(keys, parts)))
    together = torch.cat([outs[key] for key in keys], dim=1)
    whole = model(x, layout)
    assert close(together, whole)
    shifted = frame_grid(H, W, FRAMES, scale=(2.0, 1.0, 1.0))  # twin: other positions are another function
    assert not close(model(x, compile_layout(twin(range(FRAMES)), order, [shifted])), whole)


@torch.no_grad()
def test_two_relations_number_their_layers_apart() -> None:
    grid = frame_grid(H, W, FRAMES)
    relations = {
        "time": Relation(window(LENGTH), fold=("y", "x"), capacity=LENGTH * H * W),
        "space": Relation(own, fold=("t",), capacity=0),
    }
    order = Order(relations, num_units=FRAMES)
    model = build(mixers=(SelfAttentionConfig(relation="space"), SelfAttentionConfig(relation="time")))
    assert model.ring_shapes() == {"space": RingShape(2, 2, 12), "time": RingShape(2, 2, 12)}
    layout = compile_layout(twin(range(FRAMES)), order, [grid])
    x = inputs_of(layout)
    keys = [(u, MEMORY) for u in range(FRAMES)] + [(u, QUERY) for u in range(FRAMES)]
    outs = rollout(model, order, grid, dict(zip(keys, x.split(H * W, dim=1))))
    assert close(torch.cat([outs[key] for key in keys], dim=1), model(x, layout))


@torch.no_grad()
def test_one_relation_used_twice_in_a_block() -> None:
    grid, order = frame_grid(H, W, FRAMES), frames()
    model = build(mixers=(SelfAttentionConfig(), SelfAttentionConfig()))
    assert model.ring_shapes() == {"main": RingShape(4, 2, 12)}
    layout = compile_layout(twin(range(FRAMES)), order, [grid])
    x = inputs_of(layout)
    keys = [(u, MEMORY) for u in range(FRAMES)] + [(u, QUERY) for u in range(FRAMES)]
    outs = rollout(model, order, grid, dict(zip(keys, x.split(H * W, dim=1))))
    assert close(torch.cat([outs[key] for key in keys], dim=1), model(x, layout))


def test_a_layout_made_in_inference_mode_can_be_trained_on() -> None:
    with torch.inference_mode():
        layout = compile_layout(twin(range(FRAMES)), frames(), [frame_grid(H, W, FRAMES)])
        layout = replace(layout, row_length=None)
        build()(inputs_of(layout), layout)
    build()(inputs_of(layout).clone(), layout).sum().backward()


@torch.no_grad()
def test_permuting_slots_permutes_outputs() -> None:
    """Sites listed in another order inside each unit: the same function of (input, coordinate)."""
    base = frame_grid(H, W, FRAMES)
    site = torch.arange(FRAMES * H * W)
    inner = torch.tensor([2, 0, 3, 1])
    shuffled = (site // 4) * 4 + inner[site % 4]
    other = table_grid(base.axes, site // 4, site // 4, base.coord(shuffled))
    model, order = build(), frames()
    a = compile_layout(single(range(FRAMES)), order, [base])
    b = compile_layout(single(range(FRAMES)), order, [other])
    x = inputs_of(a)
    assert close(model(x[:, shuffled], b), model(x, a)[:, shuffled])
    assert not close(model(x[:, shuffled], a), model(x, a)[:, shuffled])


@torch.no_grad()
def test_gathered_rows_equal_broadcast_rows() -> None:
    layout = compile_layout(twin(range(FRAMES)), frames(), [frame_grid(H, W, FRAMES)])
    assert layout.row_length == H * W
    model, x = build(), inputs_of(layout)
    cond = Cond(modulation=draw(2, layout.num_rows, 24, seed=5), add=draw(2, layout.num_slots, 24, seed=6))
    gathered = replace(layout, row_length=None, memo={})
    assert close(model(x, gathered, cond), model(x, layout, cond))
    assert not close(model(x, layout), model(x, layout, cond))


@torch.no_grad()
def test_unequal_units() -> None:
    """Units of 1 and 3 sites: rows differ in length; each unit alone equals the joint pass."""
    unit = torch.tensor([0, 1, 1, 1])
    grid = table_grid(("t", "y", "x"), unit, unit, draw(4, 3).abs().round())
    order = Order({"main": Relation(own)}, num_units=2)
    model = build()
    both = compile_layout(single(range(2)), order, [grid])
    assert both.row_length is None
    x = inputs_of(both)
    alone = [model(x[:, unit == u], compile_layout(single([u]), order, [grid])) for u in range(2)]
    assert close(torch.cat(alone, dim=1), model(x, both))


@pytest.mark.parametrize("poison", [1e30, float("nan")])
@torch.no_grad()
def test_nobody_disturbs_nobody(poison: float) -> None:
    grid = frame_grid(H, W, FRAMES)
    padding = torch.zeros(FRAMES * H * W, dtype=torch.bool)
    padding[[1, 5, 6]] = True
    model, order = build(), frames()
    layout = compile_layout(single(range(FRAMES)), order, [grid.padded(padding)])
    pad_slots = layout.slots.cell[0] == PAD
    x = inputs_of(layout)
    dirty = x.clone()
    dirty[:, pad_slots] = poison
    clean, other = model(x, layout), model(dirty, layout)
    assert torch.equal(clean[:, ~pad_slots], other[:, ~pad_slots])
    assert other.isfinite().all()


def test_blocks_start_as_the_identity() -> None:
    """Gates start closed: the blocks change nothing, but their modulation already has a gradient."""
    layout = compile_layout(single(range(FRAMES)), frames(), [frame_grid(H, W, FRAMES)])
    x = inputs_of(layout)
    model = build(gate_std=0.0)
    shallow = build(gate_std=0.0)
    shallow.load_state_dict(model.state_dict())
    shallow.blocks = shallow.blocks[:0]
    assert torch.equal(model(x, layout), shallow(x, layout))
    model(x, layout).square().mean().backward()
    assert all(block.mlp.modulation.map.weight.grad.abs().sum() > 0 for block in model.blocks)
    assert build(gate_std=0.0, head=LinearHeadConfig())(x, layout).abs().max() == 0


@torch.no_grad()
def test_level_is_seen_and_role_is_not() -> None:
    """A unit trained as MEMORY (every unit once) is a QUERY in play: both must give the same."""
    grid, order = frame_grid(H, W, FRAMES), frames()
    model = build()
    query = compile_layout([Row(0, QUERY, 0)], order, [grid])
    memory = compile_layout([Row(0, MEMORY, None)], order, [grid])
    x = inputs_of(query)
    assert close(model(x, query), model(x, memory))
    other = x.clone()
    other[..., -1] = 0.123
    assert not close(model(x, query), model(other, query))


@torch.no_grad()
def test_empty_memory_adds_nothing() -> None:
    model = build(mixers=(SelfAttentionConfig(), CrossAttentionConfig()), memory_width=7)
    layout = compile_layout(single(range(FRAMES)), frames(), [frame_grid(H, W, FRAMES)])
    x, memory = inputs_of(layout), draw(2, 3, 7, seed=8)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    out = model(x, layout, Cond(memory=memory, memory_mask=mask))
    assert torch.equal(out[1], model(x, layout)[1])
    assert close(out[:1], model(x[:1], layout, Cond(memory=memory[:1, :2])))
    assert not close(out[0], model(x, layout)[0])


@torch.no_grad()
def test_index_inputs_and_ropes() -> None:
    order, grid = frames(), frame_grid(H, W, FRAMES)
    layout = compile_layout(single(range(FRAMES)), order, [grid])
    tokens = torch.arange(20).remainder(5).double().view(1, 20, 1)
    for rope in (MMRopeConfig(), NoRopeConfig(), AxialRopeConfig(axes=("t",))):
        model = build(rope=rope, head_width=32, level=None, in_width=1, embed=IndexEmbedConfig(vocabulary=5))
        out = model(tokens, layout)
        assert close(model(tokens, layout), out) and out.std() > 0


def test_wrong_configs_are_refused_before_building() -> None:
    with pytest.raises(UsageError, match="head_width 24"):
        config(rope=MMRopeConfig(), head_width=24)
    with pytest.raises(UsageError, match="one column, not 3"):
        config(embed=IndexEmbedConfig(vocabulary=5))
    with pytest.raises(UsageError, match="mixer"):
        config(mixers=())


def test_config_round_trip() -> None:
    for one in (config(), config(mixers=(SelfAttentionConfig(relation="a"), CrossAttentionConfig()), memory_width=3)):
        assert from_dict(to_dict(one)) == one
