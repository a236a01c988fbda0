"""The property suite over recipes that plan, at preset="tiny": two segments, own network, float64."""

import pytest
import torch
from cases import Case
from test_p1 import difference
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors
from test_p5 import OneUnitOtherwise, dependents, moved
from test_p6 import by_formula, run_with_dead_sites_filled, too_early
from test_recipes import random_actions

from vidar.conditioning.action import Actions
from vidar.configs.catalog import recipes
from vidar.core.layout import compile_layout
from vidar.core.relation import never
from vidar.core.step import by_waves
from vidar.orders.plan import PlanOrderConfig
from vidar.rng import Rng
from vidar.types import Past
from vidar.world.world import WorldConfig


def worlds():
    found = {}
    for name, recipe in recipes().items():
        method = recipe(preset="tiny").method
        world = getattr(method, "world", None)
        if isinstance(world, WorldConfig) and isinstance(world.order, PlanOrderConfig):
            found[name] = method
    return found


WORLDS = worlds()


def case_of(name, fused=True, segments=2, spoilt=None):
    """A recipe's order of some segments, objective and network as a case; first frames stand for re-encoded ones."""
    world = WORLDS[name].world
    map = world.order.map
    length = segments * map.length
    order, grid, objective = world.system(length, torch.float64)
    order = order if spoilt is None else spoilt(order)
    torch.manual_seed(0)
    net = world.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():  # zero-initialised gates and heads would hide every fault
            parameter.add_(torch.randn_like(parameter) * 0.05)
    sites, anchors = len(grid.sites(0)) // map.first, list(map.frames(map.plan))

    def content(plan):
        wanted = [anchors.index(t) for t in map.terminal[-map.first :]]
        return lambda row: torch.tanh(row.codes[plan].unflatten(0, (-1, sites))[wanted].flatten(0, 1))

    given = {s * map.units: content((s - 1) * map.units + map.plan) for s in range(1, segments)}
    first = {0: torch.randn(1, map.first * sites, objective.channels, dtype=torch.float64)}
    actions = Actions(random_actions(world.actions, length), torch.arange(length)[None] % map.length == 0)
    calls, waves = len(objective.passes) - 1, segments + 3  # a plan each, and two fills of the last one; fill 1 of it
    steps = waves * calls + 1 if fused else waves * (calls + 1) + segments
    known = {**first, **given}
    return Case(name, order, [grid], objective, lambda: by_waves(order, objective.passes, known, fused), steps, "twin",
                net, given=given, codes=first, cond=lambda layout: actions)  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("fused", [True, False])
def test_p1b_cached_decoding_equals_recomputation(name, fused):
    case = case_of(name, fused)
    ring, oracle = case.run_ring(), case.run_oracle()
    assert largest_difference(ring, oracle) < TOLERANCE


@pytest.mark.parametrize("name", WORLDS)
def test_p1_training_forward_equals_decode_passes(name):
    """TWIN in one call; twin: fill 1 that sees the terminal anchors is another model."""
    case = case_of(name, fused=False)
    assert difference(case) < TOLERANCE
    map = WORLDS[name].world.order.map
    relation = case.order.relations["main"]

    def wide(q, k):
        return relation.sees(q, k) | ((q // map.length == k // map.length) & (k % map.length >= map.terminal[0]))

    relations = {"main": type(relation)(wide)}
    assert difference(case, type(case.order)(**{**vars_of(case.order), "relations": relations})) > 1e-3


def vars_of(order):
    return {name: getattr(order, name) for name in ("num_units", "num_cells", "unit", "needs")}


@pytest.mark.parametrize("name", WORLDS)
def test_p3_prepare_equals_decode(name):
    case, method = case_of(name, segments=1), WORLDS[name]
    o, grid, map = case.objective, case.grids[0], method.world.order.map
    layout = compile_layout(method.stream.rows(map.units), case.order, [grid])
    codes = torch.randn(1, grid.num_sites, o.channels, dtype=torch.float64)
    seen, target, _ = o.prepare(codes, layout, [Rng(1, 2)], play=True, levels=torch.ones(1, layout.num_rows))
    by_unit = {u: codes[0, grid.sites(u)] for u in range(map.units)}
    asked = set()
    for unit, role in {(u, r) for u, r in zip(layout.slots.unit[0].tolist(), layout.slots.role[0].tolist())}:
        rows = (layout.slots.unit[0] == unit) & (layout.slots.role[0] == role)
        past = Past({v: code for v, code in by_unit.items() if case.order.need(unit, v)}, {})
        if role:
            expected = o.memory(unit, by_unit[unit], past, Rng(1, 2))
        else:
            asked.add(unit)
            expected = o.inputs(unit, o.start(unit, past, Rng(1, 2)), 0)
        assert torch.equal(seen[0, rows], expected)
        assert bool((target.weight[0, rows] > 0).all()) == (role == 0)
    assert asked == set(range(map.plan, map.units))


@pytest.mark.parametrize("name", WORLDS)
def test_p3_a_level_for_each_step_of_the_map(name):
    """One level for all frames of a step in training, as in play."""
    case, method = case_of(name, segments=1), WORLDS[name]
    map = method.world.order.map
    layout = compile_layout(method.stream.rows(map.units), case.order, case.grids)
    codes = torch.zeros(1, case.grids[0].num_sites, case.objective.channels, dtype=torch.float64)
    level = case.objective.prepare(codes, layout, [Rng(0)])[0][0, :, -1]
    asked = layout.slots.role[0] == 0
    found = {u: level[asked & (layout.slots.unit[0] == u)].unique() for u in range(map.plan, map.units)}
    assert all(len(values) == 1 for values in found.values()) and len(torch.cat([*found.values()]).unique()) == 3


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("at", [1, 4])
def test_p4_rewind_in_bits(name, at):
    case = case_of(name)
    steps = list(case.schedule())
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, steps[:at])
    run(decoder(case), state, steps[:at])
    mark = state.mark()
    run(decoder(case, seed=99), state, steps[at:])
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight))
    assert same_codes(run(decoder(case), state, steps[at:]), run(decoder(case), straight, steps[at:]))


@pytest.mark.parametrize("name", WORLDS)
def test_p5_noise_moves_dependents_only(name):
    case, map = case_of(name), WORLDS[name].world.order.map
    plain, _ = case.run_ring()
    everything = {u for _, u in plain}
    plan, fill_1, fill_2 = range(map.plan, map.units)
    after = {  # the next segment hangs on the plan alone
        plan: everything,
        fill_1: {fill_1, fill_2},
        map.units + plan: set(range(map.units + plan, 2 * map.units)),
    }
    for source, expected in after.items():
        rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
        assert moved(plain, case.run_ring(rngs=rngs)[0], plain) == expected
    assert dependents(case, fill_1) == after[fill_1]


@pytest.mark.parametrize("name", WORLDS)
def test_p5_an_action_moves_its_segment_and_what_hangs_on_it(name):
    """The action of a frame is told to it and to all later ones of its segment, and to no other segment."""
    case, map = case_of(name), WORLDS[name].world.order.map
    plain, given = case.run_ring()[0], case.cond(None)
    column = WORLDS[name].world.actions.actions[0]
    for segment in (0, 1):
        frame = segment * map.length + map.middle[-1] + 1
        values = given.values.clone()
        values[0, frame, 0] = column.highest if float(values[0, frame, 0]) < column.highest else column.lowest
        expected = {u for _, u in plain} if segment == 0 else set(range(map.units + map.plan, 2 * map.units))
        changed = moved(plain, case.run_ring(cond=lambda layout, v=values: Actions(v, given.unknown))[0], plain)
        assert changed == expected


@pytest.mark.parametrize("name", WORLDS)
def test_p6_calls_and_dead_sites(name):
    case = case_of(name)
    plain, recorder = case.run_ring()
    assert len(recorder.calls) == case.calls
    codes, filled = run_with_dead_sites_filled(case, by_formula)
    assert filled and all(torch.equal(codes[key], plain[key]) for key in plain)
    codes, _ = run_with_dead_sites_filled(case, too_early)
    assert any(not torch.equal(codes[key], plain[key]) for key in plain)


@pytest.mark.parametrize("name", WORLDS)
def test_segments_are_tasks_and_the_content_edge_is_theirs(name):
    """`WorldConfig.system` keeps the edges of the order beside those of the objective; without them it is found out."""
    case, map = case_of(name), WORLDS[name].world.order.map
    assert case.order.tasks() == [list(range(map.units)), list(range(map.units, 2 * map.units))]
    assert case.order.content_edges() == [(map.units, map.plan)]
    with pytest.raises(KeyError):
        case_of(
            name, spoilt=lambda order: type(order)(order.relations, **{**vars_of(order), "needs": never})
        ).run_ring()


def test_there_are_recipes_to_test():
    assert {"mmpl_shapes", "mmpl_doom"} <= set(WORLDS)
