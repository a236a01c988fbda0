import pytest
import torch

from vidar.core.order import FOREVER, Order
from vidar.core.relation import Relation, table_rule
from vidar.core.schedules import staggered
from vidar.core.step import Row, Step, by_waves, chunk, endless
from vidar.orders.block import block_order
from vidar.orders.frame import frame_order
from vidar.orders.frame_scale import frame_scale_order
from vidar.orders.plan import plan_order, thin
from vidar.orders.scale import clip_scale_order
from vidar.orders.token import token_order
from vidar.types import MEMORY, PAD, QUERY

REFINE = ((QUERY, 0), (QUERY, 1), (MEMORY, None))


def random_order(seed, units=9):
    generator = torch.Generator().manual_seed(seed)
    name = torch.randperm(units, generator=generator)

    def dag():
        table = (torch.rand(units, units, generator=generator) < 0.3).tril(-1)
        return table[name][:, name]

    sees, needs = dag() | torch.eye(units, dtype=torch.bool), dag()
    return Order({"main": Relation(table_rule(sees))}, units, needs=table_rule(needs)), sees, needs


@pytest.mark.parametrize("seed", range(5))
def test_waves_are_longest_paths(seed):
    order, sees, needs = random_order(seed)

    def depth(u):
        before = [v for v in range(9) if v != u and (sees[u, v] or needs[u, v])]
        return 1 + max(map(depth, before)) if before else 0

    waves = order.waves()
    assert sorted(sum(waves, [])) == list(range(9))
    assert all(depth(u) == n for n, wave in enumerate(waves) for u in wave)
    for v in range(9):
        readers = [depth(u) for u in range(9) if u != v and sees[u, v]]
        assert order.last_reader(v) == max(readers, default=PAD)
        assert sorted(order.needers(v)) == [u for u in range(9) if u != v and needs[u, v]]


@pytest.mark.parametrize("seed", range(5))
def test_tasks_are_connected_components(seed):
    order, sees, needs = random_order(seed)
    seen, components = set(), []
    for u in range(9):
        if u in seen:
            continue
        stack, component = [u], set()
        while stack:
            v = stack.pop()
            if v not in component:
                component.add(v)
                stack += [w for w in range(9) if sees[v, w] or sees[w, v]]
        seen |= component
        components.append(sorted(component))
    assert sorted(order.tasks()) == sorted(components)
    task = {u: n for n, c in enumerate(components) for u in c}
    expected = [(u, v) for u in range(9) for v in range(9) if needs[u, v] and task[u] != task[v]]
    assert sorted(order.content_edges()) == expected


def test_a_cycle_is_refused():
    sees = table_rule(torch.eye(2, dtype=torch.bool))
    needs = table_rule(~torch.eye(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="cycle"):
        Order({"main": Relation(sees)}, 2, needs=needs).waves()


def test_endless_units_of_several_cells_are_forgotten_too():
    order, grid = block_order(1, 2, frames=4, window=2)
    assert order.last_reader(5) == 7 and not order.need(7, 6)
    assert grid.cell(grid.sites(3)).unique().tolist() == [12, 13, 14, 15]


def test_endless_order_has_a_horizon():
    order, grid = frame_order(2, 3, None, past=4, sinks=1)
    assert order.endless and order.last_reader(9) == 13 and order.last_reader(0) == FOREVER
    assert list(order.needers(9)) == [] and order.relations["main"].capacity == 5 * 6 and grid.num_sites is None
    with pytest.raises(ValueError, match="window"):
        frame_order(2, 3, None, None)


def test_plan_chain_is_shorter_than_frames():
    order, _ = plan_order(4, thin(12), 1, 1)
    assert len(order.waves()) == 2 * 4 + 2  # first, plan of every segment in turn; two fills after the last
    sees = order.relations["main"].sees
    assert order.sees[2, 1] and not sees(torch.tensor(3), torch.tensor(11)) and sees(torch.tensor(7), torch.tensor(11))


def test_clip_scales_wait_for_their_content():
    order, _ = clip_scale_order([[(1, 1, 1), (1, 2, 2)], [(1, 1, 1), (1, 2, 2), (1, 4, 4)]])
    assert [len(w) for w in order.waves()] == [1, 1, 1, 1, 1]
    assert order.sees[2:, 1].all() and not order.sees[2:, 0].any()


def test_frame_scale_formula():
    order, grid = frame_scale_order([(1, 1), (2, 2)], 3, past=1)
    u = torch.arange(9)
    sees = order.relations["main"].sees(u[:, None], u[None, :])
    assert torch.nonzero(sees[7])[:, 0].tolist() == [5, 6, 7]  # scale 1 of frame 2: memory of frame 1, its own scales
    assert grid.num_sites == 3 * (1 + 4 + 4)
    assert torch.equal(torch.cat([grid.sites(n) for n in range(9)]), torch.arange(27))
    assert torch.equal(grid.cell(grid.sites(8)), torch.full((4,), 8))


def test_call_counts_of_the_builders():
    order, _ = frame_order(1, 1, 6)
    assert len(list(by_waves(order, REFINE))) == 6 * 3
    assert len(list(by_waves(order, REFINE, fused=True))) == 6 * 2 + 1
    assert len(list(by_waves(order, REFINE, [0, 1]))) == 4 * 3 + 1
    assert len(list(by_waves(order, ((MEMORY, 0),)))) == 6
    assert len(list(chunk(6, 3, 2))) == 2 * 3 and len(list(staggered(6, 4, 1))) == 10
    tokens, _ = token_order(1, 2, 2)
    assert list(by_waves(tokens, ((MEMORY, 0),)))[2] == Step((Row(2, MEMORY, 0),))


def test_fused_first_step_commits_nobody():
    step = next(endless(3, fused=True))
    assert step.rows == (Row(-1, MEMORY, None), Row(0, QUERY, 0)) and step.advance == 0
    assert sum(s.advance for s, _ in zip(endless(3, fused=True), range(9))) == 3


def test_a_chunk_that_does_not_divide_is_shorter():
    steps = list(chunk(5, 2, 1))
    assert [len(s.rows) for s in steps] == [2, 2, 2, 2, 1, 1] and sum(s.advance for s in steps) == 5
