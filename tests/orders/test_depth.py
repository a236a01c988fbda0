import pytest
import torch

from vidar.core.order import Order
from vidar.core.relation import Relation, never, table_rule
from vidar.orders.depth import chain_depth
from vidar.orders.frame import frame_order
from vidar.orders.plan import paired, plan_order


def longest(before, given):
    """Every path there is."""

    def from_unit(u):
        return (u not in given) + max((from_unit(v) for v in range(len(before)) if before[u, v]), default=0)

    return max(from_unit(u) for u in range(len(before)))


@pytest.mark.parametrize("seed", range(8))
def test_depth_is_the_longest_of_all_paths(seed):
    generator = torch.Generator().manual_seed(seed)
    table = (torch.rand(7, 7, generator=generator) < 0.3).tril(-1)
    mixed = torch.randperm(7, generator=generator)
    table = table[mixed][:, mixed]
    order = Order({"main": Relation(table_rule(table | torch.eye(7, dtype=torch.bool)))}, 7, needs=never)
    given = set(torch.randperm(7, generator=generator)[:2].tolist())
    assert chain_depth(order) == longest(table, set()) == len(order.waves())
    assert chain_depth(order, given) == longest(table, given)


def test_depth_falls_from_frames_to_segments():
    """Frames: one each. Plans: one a segment, and two fills of the last one."""
    for segments in (1, 2, 5):
        order, _ = plan_order(segments, paired(12), 1, 1)
        first = range(0, order.num_units, 4)
        assert chain_depth(order, first) == segments + 2
        assert chain_depth(frame_order(1, 1, 10 * segments, past=3)[0]) == 10 * segments


def test_an_endless_order_is_refused():
    with pytest.raises(ValueError, match="endless"):
        chain_depth(frame_order(1, 1, None, past=3)[0])
