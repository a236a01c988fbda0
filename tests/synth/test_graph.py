"""Tasks of a planned video: read from the order, and the same for any number of segments."""

import pytest
import torch

from vidar.core.order import Order
from vidar.core.relation import Relation, table_rule
from vidar.orders.plan import I2V, T2V, paired, plan_order, thin
from vidar.orders.token import token_order
from vidar.synth.graph import Graph, Item, Kind, Link, graph_of, links, split
from vidar.types import UsageError

PLAN, POP = Kind.PLAN, Kind.POP
CHAIN = frozenset({Link(PLAN, PLAN, 1), Link(POP, PLAN, 0)})


def order_of(segments, steps=None):
    return plan_order(segments, steps or thin(12), 1, 1)[0]


def test_plan_and_populate_are_read_from_the_order():
    """first and plan are needed by the next segment, the fills by nobody."""
    where = split(order_of(3))
    assert [where[u] for u in range(12)] == [(kind, s) for s in range(3) for kind in (PLAN, PLAN, POP, POP)]
    assert all(links(order_of(3, steps)) == CHAIN for steps in (thin(12), paired(12), T2V, I2V))
    kinds = [split(order_of(2, I2V))[u][0] for u in range(5)]
    assert kinds == [PLAN, PLAN, PLAN, POP, POP]  # the image, the frame after it, the anchors


@pytest.mark.parametrize("segments", [2, 3, 7])
def test_the_graph_is_that_of_the_whole_order(segments):
    """Task by task, from the table `before` of units; twin: an edge fewer."""
    order, where = order_of(segments), split(order_of(segments))
    want = {Item(kind, 0, s): set() for kind, s in where.values()}
    for u, v in torch.nonzero(order.before).tolist():
        if where[u] != where[v]:
            want[Item(where[u][0], 0, where[u][1])].add(Item(where[v][0], 0, where[v][1]))
    assert graph_of(CHAIN, segments).before == want
    assert graph_of(CHAIN - {Link(PLAN, PLAN, 1)}, segments).before != want


def test_the_depth_is_segments_and_a_populate():
    assert [graph_of(CHAIN, n).depth for n in (1, 2, 9)] == [2, 3, 10]
    graph = graph_of(CHAIN, 9, job=4)
    assert graph.longest(lambda item: (3.0, 5.0)[item.kind]) == 9 * 3 + 5
    assert {item.job for item in graph.before} == {4} and len(graph.before) == 18


def test_sorted_holds_every_task_after_what_it_waits_for():
    graph = graph_of(CHAIN, 5)
    order = graph.sorted()
    assert sorted(order) == sorted(graph.before)
    assert all(order.index(first) < order.index(item) for item in order for first in graph.before[item])


def test_a_cycle_is_refused():
    a, b = Item(PLAN, 0, 0), Item(PLAN, 0, 1)
    with pytest.raises(ValueError, match="wait for one another"):
        Graph({a: frozenset({b}), b: frozenset({a})})


def test_orders_without_a_plan_are_refused():
    with pytest.raises(UsageError, match="nothing to plan ahead"):
        links(token_order(1, 2, 3)[0])
    with pytest.raises(UsageError, match="nothing to plan ahead"):
        links(order_of(1))


def segments_of(sizes, needs):
    """Segments of so many units in a row, with content edges."""
    sees = torch.block_diag(*[torch.ones(n, n).tril() for n in sizes]).bool()
    table = torch.zeros_like(sees)
    for u, v in needs:
        table[u, v] = True
    return Order({"main": Relation(table_rule(sees))}, len(sees), len(sees), needs=table_rule(table))


def test_what_is_not_alike_is_refused():
    assert links(segments_of((2, 2), [(2, 0)])) == CHAIN
    with pytest.raises(UsageError, match="differ in length"):
        links(segments_of((2, 3), [(2, 0)]))
    with pytest.raises(UsageError, match="waits for a later one"):
        links(segments_of((2, 2), [(0, 2)]))


def test_a_populate_that_waits_for_the_next_plan():
    """Links reach as far as the order says: interpolation toward the start of the next segment."""
    with pytest.raises(UsageError, match="later one"):
        links(segments_of((2, 2), [(2, 0), (1, 2)]))
    assert Link(POP, PLAN, 1) in links(segments_of((2, 2), [(2, 0), (3, 0)]))
