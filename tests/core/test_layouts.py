"""A layout that was moved on is the layout that would be compiled, for every order that says it is stationary."""

from dataclasses import fields, replace
from itertools import count

import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.layouts import Layouts
from vidar.core.order import Order
from vidar.core.placement import RingShape
from vidar.core.relation import Relation
from vidar.core.step import Row, Step
from vidar.orders.block import block_order
from vidar.orders.cell import cell_order
from vidar.orders.frame import frame_order
from vidar.orders.frame_scale import frame_scale_order
from vidar.orders.prefix import PrefixOrderConfig
from vidar.orders.pyramid import pyramid_order
from vidar.orders.subsample import subsample_order
from vidar.types import MEMORY, QUERY, Slots

ORDERS = {
    "frames": lambda: frame_order(1, 2, None, 3),
    "frames with sinks": lambda: frame_order(1, 2, None, 2, 1),
    "frames in flight": lambda: frame_order(1, 2, None, 4, in_flight=2, forward=True),
    "blocks": lambda: block_order(1, 2, 2, 3),
    "cells": lambda: cell_order(2, 2, 1, 2, 2),
    "sub-samples": lambda: subsample_order(2, 2, 2, 1, 2),
    "scales of a frame": lambda: pyramid_order([(1, 1), (1, 2), (2, 2)], 2),
    "frame x scale": lambda: frame_scale_order([(1, 1), (1, 2), (2, 2)], None, 3),
    "chunks, positions go round": lambda: PrefixOrderConfig(chunk=2, window=5, prefix=2).build(1, 2),
}


def ring_at(order, grid, clock):
    """What the rings hold when all units before `clock` were committed one after another: by the formula of places."""
    from vidar.cache.ring import RingState

    state = RingState.create(order, [grid], {name: RingShape(1, 1, 1) for name in order.relations})
    for unit in range(clock):
        layout = compile_layout([Row(unit, MEMORY, None)], order, [grid])
        state.begin(layout, torch.zeros(1))
        state.end(Step(()))
    return state.held()


def steps_of(order):
    """Steps of a stream: a unit in flight alone, with the commit before it, and two in flight where that is seen."""
    both = (Row(0, QUERY, 0), Row(1, QUERY, 0)) if any(r.joint for r in order.relations.values()) else ()
    return [Step((Row(0, QUERY, 1),)), Step((Row(-1, MEMORY, None), Row(0, QUERY, 0))), *([Step(both)] if both else [])]


def equal(a, b):
    if isinstance(a, Slots):
        return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Slots))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def same(made, plain):
    for name in ("slots", "row", "row_start", "row_unit", "row_cell", "row_role", "row_step", "spans", "counts"):
        assert equal(getattr(made, name), getattr(plain, name)), name
    for name, view in plain.views.items():
        assert equal(made.views[name].k, view.k) and torch.equal(made.views[name].dense, view.dense), name
        assert (made.views[name].mask is None) == (view.mask is None)
    return True


@pytest.mark.parametrize("name", ORDERS)
def test_a_moved_layout_is_the_compiled_one(name):
    order, grid = ORDERS[name]()
    layouts, moved = Layouts(), 0
    for clock in range(1, order.warmup + 4 * order.period * 4 + 2, 1 if order.period == 1 else order.period):
        held = ring_at(order, grid, clock)
        for step in steps_of(order):
            before = [kept.layout.fixed for kept in kept_of(layouts)]
            made = layouts(step, order, [grid], [clock], held, {})
            plain = compile_layout(step.rows, order, [grid], [clock], held)
            for view in made.views.values():
                assert view.dense is not None  # made in this turn, or taken over from the first of its cycle
            assert same(made, plain)
            moved += any(made.fixed is fixed for fixed in before)
    cycle = order.cycle(int(grid.sites(order.period)[0]) - int(grid.sites(0)[0]))
    assert cycle and moved > len(steps_of(order)) * 3


def test_a_cycle_is_that_of_all_rings_together():
    """Two rings of 2 and 3 frames, and one of 4 sites that holds a frame and a third; a frame has 3 sites."""
    rings = {"two": 6, "three": 9, "odd": 4, "none": 0}
    relations = {name: Relation(lambda q, k: q == k, capacity=size) for name, size in rings.items()}
    for names, cycle in (("two", 2), ("three", 3), ("odd", 4), ("none", 1), ("two three", 6), ("two three odd", 12)):
        assert Order({name: relations[name] for name in names.split()}, period=1).cycle(3) == cycle


def kept_of(layouts):
    return layouts._kept.values()


def test_rows_at_clocks_of_their_own_move_on_together():
    order, grid = ORDERS["frames"]()
    layouts, step, found = Layouts(), Step((Row(-1, MEMORY, None), Row(0, QUERY, 0))), []
    for clock in range(5, 20):
        rings = [ring_at(order, grid, c)["main"] for c in (clock, clock + 2)]
        held = {"main": Slots(*(torch.cat([getattr(r, f.name) for r in rings]) for f in fields(Slots)))}
        made = layouts(step, order, [grid, grid], [clock, clock + 2], held, {})
        assert same(made, compile_layout(step.rows, order, [grid, grid], [clock, clock + 2], held))
        found.append(id(made.fixed))
    assert len(set(found)) == 3, "a cycle of three frames"


@pytest.mark.parametrize("change", ["an eviction", "another past"])
def test_a_ring_that_holds_something_else_is_compiled_anew(change):
    order, grid = ORDERS["frames"]()
    layouts, step = Layouts(), Step((Row(0, QUERY, 0),))
    layouts(step, order, [grid], [6], ring_at(order, grid, 6), {})
    held = ring_at(order, grid, 9)
    if change == "an eviction":
        held["main"].cell[0, 1] = -1
    else:
        held = ring_at(order, grid, 8)
    made = layouts(step, order, [grid], [9], held, {})
    assert same(made, compile_layout(step.rows, order, [grid], [9], held))
    again = layouts(step, order, [grid], [9], ring_at(order, grid, 9), {})
    assert not torch.equal(again.views["main"].dense, made.views["main"].dense)


def test_a_step_with_a_keep_of_its_own_has_it():
    """Frame 9 does not read frame 8 in one step, and does so in another of the same rows."""
    order, grid = ORDERS["frames"]()
    layouts, rows, keep = Layouts(), (Row(0, QUERY, 0),), torch.ones(1, 2, 10, 10, dtype=torch.bool)
    layouts(Step(rows), order, [grid], [6], ring_at(order, grid, 6), {})
    keep[:, :, 9, 8] = False
    held = ring_at(order, grid, 9)
    plain = compile_layout(rows, order, [grid], [9], held)
    for step, want in ((Step(rows, 0, keep), plain.with_keep(keep)), (Step(rows), plain)):
        assert torch.equal(layouts(step, order, [grid], [9], held, {}).views["main"].dense, want.views["main"].dense)
    assert not torch.equal(plain.with_keep(keep).views["main"].dense, plain.views["main"].dense)


def test_nothing_is_moved_before_the_warm_up_nor_where_an_order_says_no_period():
    order, grid = ORDERS["frames with sinks"]()
    layouts, step = Layouts(), Step((Row(0, QUERY, 0),))
    for clock in range(order.warmup):
        layouts(step, order, [grid], [clock], ring_at(order, grid, clock), {})
    assert not layouts._kept
    for other in (replace(order, period=None), replace(order, num_units=9, num_cells=9)):
        layouts = Layouts()
        layouts(step, other, [grid], [5], ring_at(order, grid, 5), {})
        assert not layouts._kept


def test_twin_an_order_that_lies_about_its_period_fails():
    """Every third frame is read by nobody, which a period of 1 does not say."""
    sees = lambda q, k: (k <= q) & (k >= q - 3) & ((k % 3 != 0) | (k == q))  # noqa: E731
    _, grid = ORDERS["frames"]()
    for period, fails in ((1, True), (3, False)):
        order = Order({"main": Relation(sees, capacity=3 * 2)}, reach=3, period=period, warmup=3)
        layouts, step, wrong = Layouts(), Step((Row(0, QUERY, 0),)), 0
        for clock in count(4):
            held = ring_at(order, grid, clock)
            made = layouts(step, order, [grid], [clock], held, {})
            dense = compile_layout(step.rows, order, [grid], [clock], held).views["main"].dense
            wrong += not torch.equal(made.views["main"].dense, dense)
            if clock == 12:
                break
        assert bool(wrong) == (fails and order.cycle(2) % 3 != 0)


def test_what_units_need_follows_from_the_first_of_a_cycle():
    order, _ = ORDERS["frame x scale"]()
    for unit in (*range(order.warmup, order.warmup + 3), 200, 201, 203):
        earlier = range(max(0, unit - order.reach), unit)
        needed = [v for v in earlier if bool(order.needs(torch.tensor(unit), torch.tensor(v)))]
        assert list(order.needed(unit)) == needed
        later = range(unit + 1, unit + 1 + order.reach)
        assert list(order.needers(unit)) == [v for v in later if bool(order.needs(torch.tensor(v), torch.tensor(unit)))]
    plain = Order({}, needs=lambda u, v: v >= u - 3, reach=3, period=1)
    assert [plain.needed(unit) for unit in (0, 2, 10)] == [(), (0, 1), (7, 8, 9)]
