"""The property suite over every recipe that has an Order, at preset="tiny", with its own network in float64."""

from itertools import islice

import pytest
import torch
from cases import Case
from test_p1 import difference, single_difference
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors
from test_p5 import OneUnitOtherwise, dependents, moved

from vidar.actions import ActionSpec
from vidar.conditioning.action import Actions
from vidar.conditioning.in_flight import InFlightConfig
from vidar.configs.catalog import recipes
from vidar.core.layout import compile_layout
from vidar.core.step import endless
from vidar.orders.block import BlockOrderConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.orders.in_parts import InParts
from vidar.rng import Rng
from vidar.types import Past
from vidar.world.world import WorldConfig

IN_TURN = FrameOrderConfig | BlockOrderConfig | InParts  # unit after unit, every one denoised


def worlds():
    found = {}
    for name, recipe in recipes().items():
        method = recipe(preset="tiny").method
        world = getattr(method, "world", None)
        if isinstance(world, WorldConfig) and isinstance(world.order, IN_TURN):  # others: test_recipes_*.py
            found[name] = method
    return found


WORLDS = worlds()


def random_actions(spec: ActionSpec, count):
    generator = torch.Generator().manual_seed(4)
    columns = [
        torch.randint(0, int(a.highest) + 1, (count,), generator=generator).double()
        if a.kind != "continuous"
        else torch.rand(count, generator=generator).double() * (a.high - a.low) + a.low
        for a in spec.actions
    ]
    return torch.stack(columns, -1)[None]


def period_of(name):
    """Units of a frame; and frames of a unit."""
    world = WORLDS[name].world
    return world.system()[2].period, world.order.unit_frames


def case_of(name, fused=True, frames=None):
    """A recipe's own order, objective and network (weights drawn, gates opened) as a case of the suite.

    frames: how many are run, or blocks of them; None: at least three windows.
    """
    world = WORLDS[name].world
    order, grid, objective = world.system(None, torch.float64)
    units = objective.period * frames if frames else 3 * order.reach + 2
    length = -(-units // objective.period) * world.order.unit_frames
    torch.manual_seed(0)
    net = world.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():  # zero-initialised gates and heads would hide every fault
            parameter.add_(torch.randn_like(parameter) * 0.05)
    calls = len(objective.passes) - 1
    actions = Actions(random_actions(world.actions, length), torch.arange(length)[None] % 5 == 0)
    steps = units * (calls if fused else calls + 1)
    return Case(name, order, [grid], objective, lambda: islice(endless(calls, fused), steps), steps, "twin", net,
                cond=lambda layout: actions)  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("fused", [True, False])
def test_p1b_cached_decoding_equals_recomputation(name, fused):
    case = case_of(name, fused)
    ring, oracle = case.run_ring(), case.run_oracle()
    assert largest_difference(ring, oracle) < TOLERANCE and len(ring[1].calls) == case.calls


@pytest.mark.parametrize("name", WORLDS)
def test_p1_training_forward_equals_decode_passes(name):
    """TWIN in one call; and SINGLE, every unit once, for each unit in its turn, unless the network is told the role."""
    case = case_of(name, fused=False, frames=5 if period_of(name)[0] == 1 else 2)
    assert difference(case) < TOLERANCE
    told = isinstance(WORLDS[name].world.net.conditioner, InFlightConfig)
    assert single_difference(case) > 1e-3 if told else single_difference(case) < TOLERANCE


@pytest.mark.parametrize("name", WORLDS)
def test_p3_prepare_equals_decode(name):
    case, method = case_of(name, frames=5), WORLDS[name]
    o, grid = case.objective, case.grids[0]
    units = range(3 * o.period)
    layout = compile_layout(method.stream.rows(len(units)), case.order, [grid])
    codes = torch.randn(1, 1 + int(grid.sites(units[-1]).max()), o.channels, dtype=torch.float64)
    seen, target, _ = o.prepare(codes, layout, [Rng(1, 2)], play=True, levels=torch.ones(1, layout.num_rows))
    by_unit = {u: codes[0, grid.sites(u)] for u in units}
    for unit, step in set(zip(layout.row_unit[0].tolist(), layout.row_step.tolist())):
        rows = (layout.slots.unit[0] == unit) & (layout.row_step[layout.row] == step)
        past = Past({v: code for v, code in by_unit.items() if case.order.need(unit, v)}, {})
        if step < 0:
            expected = o.memory(unit, by_unit[unit], past, Rng(1, 2))
        else:
            expected = o.inputs(unit, o.start(unit, past, Rng(1, 2)), 0)
        assert torch.equal(seen[0, rows], expected)


@pytest.mark.parametrize("name", WORLDS)
def test_p4_rewind_in_bits(name):
    case = case_of(name)
    calls = len(case.objective.passes) - 1
    window = case.order.reach
    steps = list(islice(endless(calls, True), calls * (window + 2) + 1))
    junk = list(islice(endless(calls, True), 1, 1 + calls * (window + 1)))
    after = list(islice(endless(calls, True), 1, 1 + calls * 2))
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, steps)
    run(decoder(case), state, steps)
    mark = state.mark()
    run(decoder(case, seed=99), state, junk)
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight))
    assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


@pytest.mark.parametrize("name", WORLDS)
def test_p5_noise_and_action_move_dependents_only(name):
    period, per = period_of(name)
    case = case_of(name, frames=5 if period == 1 else 3)
    plain, _ = case.run_ring()
    units, frame = {u for _, u in plain}, 2 if period == 1 else 1  # or a block
    source = frame * period
    rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
    assert moved(plain, case.run_ring(rngs=rngs)[0], plain) == dependents(case, source) & units
    given = case.cond(None)
    spec = WORLDS[name].world.actions
    values = given.values.clone()
    first = spec.actions[0]
    column = frame * per
    values[0, column, 0] = first.highest if float(values[0, column, 0]) < first.highest else first.lowest
    other = Actions(values, given.unknown)
    changed = moved(plain, case.run_ring(cond=lambda layout: other)[0], plain)
    told = range(source, source + period)  # all units of the frame
    assert changed == set().union(*(dependents(case, unit, by_action=True) for unit in told)) & units


@pytest.mark.parametrize("name", WORLDS)
def test_p6_ring_holds_the_window(name):
    case = case_of(name)
    state = case.ring_state()
    case.run(state)
    order, grid = case.order, case.grids[0]
    for relation, ring in state.rings.items():
        alive = int((ring.slots.cell >= 0).sum())
        assert alive == ring.k.shape[2] == order.relations[relation].capacity
        world, period = WORLDS[name].world, case.objective.period
        frames = world.order.window + (period > 1)  # of several units: the one that is being made, too; or blocks
        assert ring.k.shape[2] == frames * sum(len(grid.sites(unit)) for unit in range(period))


def test_there_are_recipes_to_test():
    parts = {"xar", "xar_cells_doom", "xar_subsamples_doom", "xar_scales_doom"}
    assert {"world_doom", "world_shapes", "acdit_doom"} | parts <= set(WORLDS)
