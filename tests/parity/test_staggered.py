"""What is in flight side by side: P4 in the middle of it, what is emitted after a context, and twins."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from cases import BY_NAME, STAGGERED, Case, staggered_case
from recipe_cases import random_actions
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors

from vidar.conditioning.action import Actions
from vidar.configs.nfd import world_nfd
from vidar.core.schedules import staggered
from vidar.core.step import Row, Step, prefill
from vidar.model.schedules import PipelineConfig, RollingConfig, with_schedule
from vidar.types import MEMORY, QUERY

ROLLING = "rolling, 3 steps, delay 1, endless, 0 given, fused"


@pytest.mark.parametrize("case", STAGGERED, ids=lambda c: c.name)
def test_p4_rewind_in_bits(case):
    steps = list(case.schedule())
    for cut in (len(steps) // 3, 2 * len(steps) // 3 + 1):
        straight, state = case.ring_state(), case.ring_state()
        for one in (straight, state):
            run(decoder(case), one, steps[:cut])
        assert state.rows[0].x, "nothing is in flight"
        mark = state.mark()
        run(decoder(case, seed=99), state, steps[cut:])
        assert not same_bits(tensors(state), tensors(straight))
        state.rewind(mark)
        assert same_bits(tensors(state), tensors(straight))
        assert same_codes(run(decoder(case), state, steps[cut:]), run(decoder(case), straight, steps[cut:]))


def emitted(case, schedule=None):
    return [unit for _, unit, _ in run(decoder(case), case.ring_state(), schedule or case.schedule())]


@pytest.mark.parametrize("case", STAGGERED, ids=lambda c: c.name)
def test_new_units_alone_are_emitted_once_and_in_order(case):
    made = emitted(case)
    assert made == list(range(len(case.codes), len(case.codes) + len(made))) and made


def test_twin_a_pipeline_without_a_ramp_makes_the_context_again():
    case = staggered_case("pipeline", 1, 3, context=3)
    assert not set(emitted(case)) & set(case.codes)
    rows = (Row(-3, MEMORY, None), Row(-2, QUERY, 2), Row(-1, QUERY, 1), Row(0, QUERY, 0))
    steps = [prefill(range(3), advance=3), *[Step(rows, 1)] * 6]
    with pytest.raises(ValueError, match="unit 0 is committed again, but its code is gone"):
        emitted(case, steps)


def test_committed_with_the_next_call_or_by_one_of_its_own_is_the_same():
    for delay, forward in ((1, True), (2, False), (1.5, False)):
        fused, eager = (staggered_case("x", delay, 3, context=2, units=6, fused=f, forward=forward) for f in (1, 0))
        a, b = fused.run_ring()[0], eager.run_ring()[0]
        assert a.keys() == b.keys() and max(float((a[key] - b[key]).abs().max()) for key in a) < TOLERANCE


def test_a_delay_of_all_steps_is_one_by_one():
    """With one unit in flight, in-flight reading makes no difference."""
    case = staggered_case("x", 3, 3, units=6)
    apart = replace(case.order, relations={"main": replace(case.order.relations["main"], joint=False)})
    plain = case.but(order=apart).run_ring(schedule=one_by_one(6, 3))[0]
    made = case.run_ring()[0]
    assert made.keys() == plain.keys() and max(float((made[k] - plain[k]).abs().max()) for k in made) < TOLERANCE


@pytest.mark.parametrize("schedule", [PipelineConfig(stages=2), RollingConfig()])
def test_the_network_of_a_recipe_equals_recomputation(schedule):
    """NFD's, tiny, in float64, after a context, with its actions."""
    config = world_nfd(preset="tiny").method.world.with_steps(2)
    config = with_schedule(config.replace(order=config.order.replace(window=3)), schedule)
    system = config.system(dtype=torch.float64)
    order, grid, objective = system.order, system.grid, system.objective
    torch.manual_seed(0)
    net = config.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    actions = Actions(random_actions(config.actions, 12), torch.arange(12)[None] % 5 == 0)

    known = {u: torch.randn(1, grid.sites(u).shape[0], config.channels, dtype=torch.float64) for u in (0, 1)}

    def steps():
        yield prefill([0, 1], advance=2)
        yield from islice(system.schedule.steps(objective, system.frames), 10)

    case = Case("nfd", order, [grid], objective, steps, 11, None, net, codes=known,
                cond=lambda layout: actions)  # fmt: skip
    assert largest_difference(case.run_ring(), case.run_oracle()) < TOLERANCE


def one_by_one(units, steps):
    for _ in range(units):
        for i in range(steps):
            yield Step((Row(0, QUERY, i),))
        yield Step((Row(0, MEMORY, None),), 1)


# twins: each of these must fail


@pytest.mark.parametrize(
    "changes", [{"joint": False}, {"capacity": 2 * 2}, {"memory": None}], ids=["not joint", "ring short", "one rule"]
)
def test_twin_another_relation_fails(changes):
    """A ring of two frames for three; a rule of what is committed that looks forward as in flight."""
    case = BY_NAME[ROLLING]
    relation = replace(case.order.relations["main"], **changes)
    if "memory" in changes:  # whatever commits in one call then reads one another
        steps = [prefill(range(4), advance=4), *islice(staggered(None, 3, 1), 9)]
        case = staggered_case("rolling", 1, 3, context=4, forward=True).but(schedule=lambda: iter(steps))
    other = case.but(order=replace(case.order, relations={"main": relation}))
    assert largest_difference(other.run_ring(), case.run_oracle()) > 1e-3
