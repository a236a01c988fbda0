import pytest
import torch

from vidar.conditioning.action import Actions
from vidar.conditioning.plan import PlanActionEmbedConfig
from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.data.synthetic import SPEC
from vidar.orders.plan import T2V, paired, plan_order


@pytest.mark.parametrize("map", [paired(10), T2V])
def test_a_frame_hears_its_segment_up_to_itself_and_sums_since_what_is_known(map, monkeypatch):
    """Against loops over frames; two segments, what is told of the first one does not reach the second."""
    torch.manual_seed(0)
    net = PlanActionEmbedConfig(spec=SPEC, width=6, map=map).build().double()
    order, grid = plan_order(2, map, 1, 1)
    layout = compile_layout(twin(range(order.num_units)), order, [grid])
    values = torch.randint(0, 5, (2, 2 * map.length, 1)).double()
    unknown = torch.rand(2, 2 * map.length) < 0.2
    conditions = Actions(values, unknown)
    made, parts = net.actions.columns(conditions), []
    monkeypatch.setattr(net.actions, "joined", lambda seen: parts.extend(seen) or seen[0])
    net(conditions, layout)
    for m, cell in enumerate(layout.row_cell[0].tolist()):
        start, t = cell - cell % map.length, cell % map.length
        known = [s for s in range(t) if map.steps[s] < map.steps[t]]
        for b in range(2):
            row = [part[b, m] for part in parts]
            for back in range(map.length):
                expected = made[b, cell - back] if back <= t else made[b, -1]
                assert torch.equal(row[back], expected)
            since = made[b, start + known[-1] + 1 : cell + 1].sum(0) if known else torch.zeros(6)
            torch.testing.assert_close(row[-2], since.double())
            torch.testing.assert_close(row[-1], made[b, start + 1 : cell + 1].sum(0))


def test_a_stream_that_begins_later_is_told_the_same():
    """Column 0 may be another frame: those before are unknown."""
    torch.manual_seed(0)
    map = paired(10)
    net = PlanActionEmbedConfig(spec=SPEC, width=6, map=map).build().double()
    order, grid = plan_order(2, map, 1, 1)
    layout = compile_layout(twin(range(order.num_units)), order, [grid])
    values, unknown = torch.randint(0, 5, (1, 20, 1)).double(), torch.zeros(1, 20, dtype=torch.bool)
    whole = net(Actions(values, unknown), layout).modulation
    late = net(Actions(values[:, 10:], unknown[:, 10:], 10), layout).modulation
    second = layout.row_cell[0] >= 10
    assert torch.equal(whole[:, second], late[:, second]) and not torch.equal(whole, late)
