"""The property suite over recipes whose frames are in flight by chunks over a clean prefix (Ca2-VDM), in float64."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from cases import Case, latents
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors
from test_p5 import OneUnitOtherwise, dependents, moved

from vidar.conditioning.action import Actions
from vidar.configs.catalog import recipes
from vidar.core.layout import compile_layout
from vidar.core.step import Row, chunk, prefill
from vidar.orders.prefix import PrefixOrderConfig
from vidar.rng import Rng
from vidar.train.methods.prefix import TrainPrefixConfig
from vidar.types import MEMORY, QUERY, Past

METHODS = {name: method for name, r in recipes().items()
           if isinstance(method := getattr(r(preset="tiny"), "method", None), TrainPrefixConfig)}  # fmt: skip
CHUNKS = 5


def schedule_of(order, calls, fused, chunks):
    """One frame is given; then chunks, the ring of `time` wrapped."""

    def schedule():
        yield prefill(range(order.first), advance=order.first)
        yield from islice(chunk(None, order.chunk, calls, fused), chunks * (calls if fused else calls + 1))

    return schedule


def case_of(name, fused=True, chunks=CHUNKS, finite=False):
    """A recipe's own order, objective and network (weights drawn, gates opened) as a case of the suite."""
    world, frames = METHODS[name].world, METHODS[name].order
    length = frames.first + chunks * frames.chunk
    order, grid, objective = world.system(length if finite else None, torch.float64)
    torch.manual_seed(0)
    net = world.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():  # zero-initialised gates and heads would hide every fault
            parameter.add_(torch.randn_like(parameter) * 0.05)
    values = torch.rand(1, length, world.actions.width, generator=torch.Generator().manual_seed(4)).round().double()
    actions = Actions(values, torch.arange(length)[None] % 5 == 0)
    calls = len(objective.passes) - 1
    codes = latents(grid, range(frames.first))
    codes = {u: torch.randn(1, c.shape[1], objective.channels, dtype=torch.float64) for u, c in codes.items()}
    return Case(name, order, [grid], objective, schedule_of(frames, calls, fused, chunks),
                1 + chunks * (calls if fused else calls + 1), None, net, codes=codes,
                cond=lambda layout: actions)  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("fused", [True, False])
def test_p1b_one_cache_for_all_steps_equals_recomputation(name, fused):
    case = case_of(name, fused)
    ring, oracle = case.run_ring(), case.run_oracle()
    assert largest_difference(ring, oracle) < TOLERANCE and len(ring[1].calls) == case.calls
    assert len(ring[0]) == CHUNKS * METHODS[name].order.chunk > 3 * METHODS[name].order.window


def without(case, **relations):
    changed = {n: replace(case.order.relations[n], **changes) for n, changes in relations.items()}
    return case.but(order=replace(case.order, relations={**case.order.relations, **changed}))


def test_p1b_twins_fail():
    """A ring one frame short; committed frames that read the prefix too; positions that do not go round alike."""
    case = case_of("ca2vdm_doom")
    oracle = case.run_oracle()
    sites, frames = case.grids[0].sites(0).shape[0], METHODS["ca2vdm_doom"].order
    for twin in (
        without(case, time={"capacity": (frames.window - 1) * sites}),
        without(case, prefix={"capacity": (frames.prefix - 1) * sites}),
        without(case, prefix={"memory": None}),
        case.but(grids=[frames.replace(window=frames.window + frames.chunk).build(*METHODS[case.name].world.sites)[1]]),
    ):
        assert largest_difference(twin.run_ring(), oracle) > 1e-6


def prefix_difference(case, length, order, role=MEMORY):
    """Training rows of a prefix and the chunk behind it, in one call, against the calls of an eager decode."""
    _, recorder = case.run_ring()
    inputs, asked, worst = {}, {}, 0.0
    for layout, given, out in recorder.calls:
        steps = layout.row_step[layout.row]
        for unit, role_, step in set(zip(layout.slots.unit[0].tolist(), layout.slots.role[0].tolist(), steps.tolist())):
            where = (layout.slots.unit[0] == unit) & (layout.slots.role[0] == role_) & (steps == step)
            inputs[unit, role_, step], asked[unit, role_, step] = given[:, where], out[:, where]
    chunk_units = range(length, length + order.chunk)
    for step in range(len(case.objective.passes) - 1):
        rows = [Row(u, role, None) for u in range(length)] + [Row(u, QUERY, step) for u in chunk_units]
        layout = compile_layout(rows, case.order, case.grids)
        seen = [inputs[u, MEMORY, -1] for u in range(length)] + [inputs[u, QUERY, step] for u in chunk_units]
        with torch.no_grad():
            out = case.model(torch.cat(seen, 1), layout, case.cond(layout), None)
        expected = torch.cat([asked[u, QUERY, step] for u in chunk_units], 1)
        worst = max(worst, float((out[:, -expected.shape[1] :] - expected).abs().max() / expected.abs().max()))
    return worst


@pytest.mark.parametrize("name", METHODS)
def test_p1_training_rows_equal_decode_passes(name):
    """For every length of prefix that training draws, and one that the window no longer holds."""
    order = METHODS[name].order
    case = case_of(name, fused=False, chunks=3, finite=True)
    for length in [*METHODS[name].build().lengths, order.window + order.chunk]:
        assert prefix_difference(case, length, order) < TOLERANCE
    assert prefix_difference(case, order.window, order, role=QUERY) > 1e-6  # twin: the prefix is not in flight


@pytest.mark.parametrize("name", METHODS)
def test_p3_prepare_equals_decode(name):
    case, order = case_of(name, finite=True), METHODS[name].order
    o, grid = case.objective, case.grids[0]
    length = order.first + order.chunk
    rows = [Row(u, MEMORY, None) for u in range(length)] + [Row(length + u, QUERY, 0) for u in range(order.chunk)]
    layout, sites = compile_layout(rows, case.order, [grid]), grid.sites(0).shape[0]
    codes = torch.randn(1, (length + order.chunk) * sites, o.channels, dtype=torch.float64)
    levels = torch.full((1, layout.num_rows), o.calls[0])
    seen, _, _ = o.prepare(codes, layout, [Rng(1, 2)], play=True, levels=levels)
    by_unit = {u: codes[0, u * sites : (u + 1) * sites] for u in range(length + order.chunk)}
    for m, (unit, step) in enumerate(zip(layout.row_unit[0].tolist(), layout.row_step.tolist())):
        past = Past({v: code for v, code in by_unit.items() if case.order.need(unit, v)}, {})
        if step < 0:
            expected = o.memory(unit, by_unit[unit], past, Rng(1, 2))
        else:
            expected = o.inputs(unit, o.start(unit, past, Rng(1, 2)), 0)
        mixed = expected if o.calls[0] == 1 or step < 0 else None  # a chain of betas keeps a little of x0 at its end
        if mixed is not None:
            assert torch.equal(seen[0, layout.row == m], mixed)
        else:
            off = seen[0, layout.row == m] - expected
            assert float(off.abs().max()) < 4 * float(o.whole.alpha_bar[-1].sqrt())


@pytest.mark.parametrize("name", METHODS)
def test_p4_rewind_in_bits(name):
    case = case_of(name)
    steps = list(case.schedule())
    calls = len(case.objective.passes) - 1
    before, junk, after = steps[: 3 * calls + 1], steps[3 * calls + 1 :], steps[3 * calls + 1 : 4 * calls + 1]
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, before)
    run(decoder(case), state, before)
    mark = state.mark()
    run(decoder(case, seed=99), state, junk)
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight))
    assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


@pytest.mark.parametrize("name", METHODS)
def test_p5_noise_and_action_move_dependents_only(name):
    case = case_of(name, chunks=3)
    plain, _ = case.run_ring()
    units = {u for _, u in plain}
    for source in (1, 4):
        rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
        assert moved(plain, case.run_ring(rngs=rngs)[0], plain) == dependents(case, source) & units
    given = case.cond(None)
    if given.values.shape[-1]:
        values = given.values.clone()
        values[0, 4, 0] = 1 - values[0, 4, 0]
        other = Actions(values, given.unknown)
        changed = moved(plain, case.run_ring(cond=lambda layout: other)[0], plain)
        assert changed == dependents(case, 4, by_action=True) & units


@pytest.mark.parametrize("name", METHODS)
def test_p6_rings_hold_prefix_and_window_whatever_the_steps(name):
    """Bytes of the cache are those of P' and P_max frames, with one step as with many."""
    sizes = set()
    for steps in (1, 3):
        method = METHODS[name]
        world = method.world.with_steps(steps)
        METHODS["changed"] = method.replace(world=world)
        case = case_of("changed", chunks=4)
        state = case.ring_state()
        case.run(state)
        sites = case.grids[0].sites(0).shape[0]
        order = method.order
        assert set(state.rings) == {"prefix", "time"}
        for relation, frames in (("prefix", order.prefix), ("time", order.window)):
            assert int((state.rings[relation].slots.cell >= 0).sum()) == state.rings[relation].k.shape[2]
            assert state.rings[relation].k.shape[2] == frames * sites
        sizes.add(sum(part.nbytes for ring in state.rings.values() for part in (ring.k, ring.v)))
        del METHODS["changed"]
    assert len(sizes) == 1


def test_there_are_recipes_to_test():
    assert sorted(METHODS) == ["ca2vdm", "ca2vdm_doom"]
    assert all(isinstance(method.world.order, PrefixOrderConfig) for method in METHODS.values())
