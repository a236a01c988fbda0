import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.conditioning.action import ActionEmbed, ActionEmbedConfig, Actions
from vidar.conditioning.compose import ComposeConditionerConfig
from vidar.conditioning.label import LabelEmbedConfig, Labels
from vidar.conditioning.net import WorldNetConfig
from vidar.config import from_dict, to_dict
from vidar.core.grid import frame_grid
from vidar.core.layout import Layout, compile_layout
from vidar.core.order import Order
from vidar.core.relation import Relation, window
from vidar.core.step import Row, single, twin
from vidar.nn.backbone import BackboneConfig
from vidar.nn.heads import LinearHeadConfig
from vidar.types import MEMORY, QUERY, UsageError, VidarError

UNITS, D = 6, 8
SPEC = ActionSpec(
    actions=(
        Action(name="jump"),
        Action(name="turn", kind="camera", size=5, noop=2.0),
        Action(name="weapon", kind="choice", size=3),
        Action(name="speed", kind="continuous", low=0.0, high=10.0),
    )
)


def layout_of(rows=None, clocks=(0,)) -> Layout:
    order = Order({"main": Relation(window(3), capacity=6)}, reach=3)
    return compile_layout(rows or twin(range(UNITS)), order, [frame_grid(1, 2)] * len(clocks), clocks)


def record(batch: int = 2, seed: int = 0) -> Actions:
    draw = torch.rand(batch, UNITS, 4, generator=torch.Generator().manual_seed(seed))
    values = torch.stack(
        [draw[..., 0].round(), (draw[..., 1] * 4).round(), (draw[..., 2] * 2).round(), draw[..., 3] * 10], dim=-1
    )
    unknown = torch.zeros(batch, UNITS, dtype=torch.bool)
    unknown[:, 0] = True
    return Actions(values, unknown)


def embed(history: int = 0) -> ActionEmbed:
    torch.manual_seed(0)
    return ActionEmbedConfig(spec=SPEC, width=D, history=history).build().double()


@torch.no_grad()
def test_rows_pick_the_action_of_their_unit() -> None:
    """One unit at a time equals the whole layout; QUERY and MEMORY rows of a unit get the same action."""
    model, actions = embed(), record()
    rows = model(actions, layout_of()).modulation
    assert rows.shape == (2, 2 * UNITS, D)
    assert torch.equal(rows[:, :UNITS], rows[:, UNITS:])
    for unit in range(UNITS):
        one = model(actions, layout_of([Row(unit, QUERY, 0)])).modulation
        assert (one[:, 0] - rows[:, unit]).abs().max() < 1e-12
    order = torch.tensor([3, 1, 0, 5, 2, 4])
    moved = Actions(actions.values[:, order], actions.unknown[:, order])
    assert torch.allclose(model(moved, layout_of()).modulation[:, :UNITS], rows[:, order])


@torch.no_grad()
def test_every_column_is_seen_and_unknown_hides_all() -> None:
    model, actions = embed(), record()
    base = model(actions, layout_of(single(range(UNITS)))).modulation
    other_value = (lambda v: 1 - v, lambda v: (v + 1) % 5, lambda v: (v + 1) % 3, lambda v: (v + 5) % 10)
    for column, change in enumerate(other_value):
        values = actions.values.clone()
        values[0, 3, column] = change(values[0, 3, column])
        other = model(Actions(values, actions.unknown), layout_of(single(range(UNITS)))).modulation
        moved = (other - base).abs().amax(dim=-1) > 1e-9
        assert moved[0, 3] and moved.sum() == 1
        values[:, 0, column] = 0.0
        other = model(Actions(values, actions.unknown), layout_of(single(range(UNITS)))).modulation
        assert torch.equal(other[:, 0], base[:, 0])  # unit 0 is unknown


@torch.no_grad()
def test_unknown_is_not_noop() -> None:
    model = embed()
    values = torch.from_numpy(SPEC.noop()).expand(1, UNITS, 4)
    noop = model(Actions(values, torch.zeros(1, UNITS, dtype=torch.bool)), layout_of()).modulation
    unknown = model(Actions(values, torch.ones(1, UNITS, dtype=torch.bool)), layout_of()).modulation
    assert (noop - unknown).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("history", [0, 2])
def test_a_window_of_a_stream_equals_the_whole(history: int) -> None:
    """first: the record may begin later; units outside it, and the frame before the first, are unknown."""
    model, actions = embed(history), record()
    layout = layout_of([Row(-1, MEMORY, None), Row(0, QUERY, 0)], clocks=(4, 5))
    whole = model(actions, layout).modulation
    late = Actions(actions.values[:, 1:], actions.unknown[:, 1:], first=1)
    assert torch.equal(model(late, layout).modulation, whole)
    pair = Actions(
        torch.stack([actions.values[0, 1:5], actions.values[1, 2:6]]), actions.unknown[:, 1:5], torch.tensor([1, 2])
    )
    assert torch.equal(model(pair, layout).modulation, whole)
    early = Actions(torch.cat([actions.values[:, 1:3], actions.values], dim=1), torch.zeros(2, 8).bool(), first=-2)
    begin = layout_of([Row(-1, MEMORY, None), Row(9, QUERY, 0)])
    rows = model(early, begin).modulation
    assert torch.equal(rows[:, 0], rows[:, 1])  # nobody's action is unknown, whatever the record holds there
    begin = layout_of([Row(-1, MEMORY, None), Row(0, QUERY, 0), Row(9, QUERY, 0)])
    rows = model(actions, begin).modulation
    assert torch.equal(rows[:, 0], rows[:, 1]) and torch.equal(rows[:, 0], rows[:, 2])  # all unknown
    told, hidden = (Actions(actions.values, torch.full_like(actions.unknown, what)) for what in (False, True))
    rows, nothing = model(told, begin).modulation, model(hidden, begin).modulation
    assert (rows == nothing).all(-1).tolist() == [[True, False, True]] * 2  # only frame 0 is in the record


@torch.no_grad()
def test_history_sees_exactly_that_many_actions() -> None:
    model, actions = embed(history=2), record()
    layout = layout_of(single(range(UNITS)))
    base = model(actions, layout).modulation
    values = actions.values.clone()
    values[0, 2, 3] += 0.5
    moved = (model(Actions(values, actions.unknown), layout).modulation - base).abs().amax(dim=-1) > 1e-9
    assert moved.nonzero().tolist() == [[0, 2], [0, 3], [0, 4]]


@torch.no_grad()
def test_labels_and_their_absence() -> None:
    torch.manual_seed(0)
    model = LabelEmbedConfig(num_labels=3, width=D).build()
    rows = model(Labels(torch.tensor([0, 2, 2, 0]), torch.tensor([False, False, True, True])), layout_of()).modulation
    assert rows.shape == (4, 2 * UNITS, D) and torch.equal(rows[:, :1].expand_as(rows), rows)
    assert torch.equal(rows[2], rows[3])
    assert len({tuple(row.tolist()) for row in rows[:, 0]}) == 3


def net_config() -> WorldNetConfig:
    parts = {"actions": ActionEmbedConfig(spec=SPEC, width=D), "label": LabelEmbedConfig(num_labels=3, width=D)}
    backbone = BackboneConfig(
        width=D, depth=1, heads=1, head_width=6, in_width=3, out_width=2, gate_std=0.3, head=LinearHeadConfig(std=0.3)
    )
    return WorldNetConfig(backbone=backbone, conditioner=ComposeConditionerConfig(parts=parts))


@torch.no_grad()
def test_composed_conditions_are_sums() -> None:
    torch.manual_seed(0)
    net, layout = net_config().build(), layout_of()
    given = {"actions": record(), "label": Labels(torch.tensor([1, 2]), torch.tensor([False, False]))}
    apart = [part(given[name], layout).modulation for name, part in net.conditioner.parts.items()]
    assert torch.equal(net.condition(given, layout).modulation, apart[0] + apart[1])
    with pytest.raises(VidarError, match="'label' is missing or unknown"):
        net.condition({"actions": record()}, layout)
    x = torch.randn(2, layout.num_slots, 3, generator=torch.Generator().manual_seed(1))
    made = net.condition(given, layout)
    assert torch.equal(net(x, layout, made), net(x, layout, given))
    assert (net(x, layout) - net(x, layout, given)).abs().max() > 1e-3


def test_an_action_moves_only_units_that_see_it() -> None:
    torch.manual_seed(0)
    net, layout = net_config().build(), layout_of(single(range(UNITS)))
    x = torch.randn(1, layout.num_slots, 3)
    actions, label = record(1), Labels(torch.tensor([1]), torch.tensor([False]))
    values = actions.values.clone().requires_grad_()
    out = net(x, layout, {"actions": Actions(values, actions.unknown), "label": label})
    (gradient,) = torch.autograd.grad(out[:, 4:6].square().sum(), values)  # unit 2 sees 0, 1 and 2; 0 is unknown
    assert (gradient[0, :, 3] != 0).tolist() == [False, True, True, False, False, False]


def test_configs_round_trip_and_refuse() -> None:
    assert from_dict(to_dict(net_config())) == net_config()
    with pytest.raises(UsageError, match="no conditioners to compose"):
        ComposeConditionerConfig(parts={})
