"""The property suite over every recipe that predicts its frames scale by scale, tiny, in float64."""

from itertools import chain, islice, repeat

import pytest
import torch
from cases import Case
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors
from test_p5 import OneUnitOtherwise, dependents, moved
from test_recipes import random_actions

from vidar.conditioning.action import Actions
from vidar.configs.catalog import recipes
from vidar.core.layout import compile_layout
from vidar.core.step import prefill, single
from vidar.rng import Rng
from vidar.types import Past
from vidar.world.world import WorldConfig


def worlds():
    found = {name: getattr(recipe(preset="tiny").method, "world", None) for name, recipe in recipes().items()}
    return {name: world for name, world in found.items() if isinstance(world, WorldConfig) and world.by_scales}


WORLDS = worlds()


def calls(objective, frames):
    """Of frame after frame."""
    return list(islice(chain.from_iterable(repeat(objective.frame_steps())), frames * objective.scales))


def case_of(name, frames=None, endless=True):
    world = WORLDS[name]
    length = frames or 3 * world.order.window + 2
    torch.manual_seed(0)
    order, grid, objective = world.system(None if endless else length, torch.float64)
    net = world.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    actions = Actions(random_actions(world.actions, length), torch.arange(length)[None] % 5 == 0)
    steps = calls(objective, length)
    return Case(name, order, [grid], objective, lambda: iter(steps), len(steps), "single", net,
                cond=lambda layout: actions, given=objective.given)  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
def test_p1b_cached_decoding_equals_recomputation(name):
    case = case_of(name)
    ring, oracle = case.run_ring(), case.run_oracle()
    assert largest_difference(ring, oracle) < TOLERANCE and len(ring[1].calls) == case.calls


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("known", [1, 2, 6])
def test_p1b_after_a_context(name, known):
    """Context frames are given as memory units; the last of them rides on the first call. Window 3: it wraps."""
    case = case_of(name, endless=True)
    o = case.objective
    count = case.grids[0].sites(o.scales).shape[0]
    frames = torch.randn(known, 1, count, o.channels, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    codes = {o.frame_unit(f): code for f, code in enumerate(frames)}
    first = [prefill(list(codes)[:-1], advance=known * o.period)] if known > 1 else []
    steps = [*first, *calls(o, WORLDS[name].order.window + 1)]
    case = case.but(codes=codes, clock=0 if first else o.period, schedule=lambda: iter(steps))
    assert largest_difference(case.run_ring(), case.run_oracle()) < TOLERANCE


@pytest.mark.parametrize("name", WORLDS)
def test_p1_and_p3_training_equals_decoding(name):
    """Latents whose pyramids are what was decoded: inputs, labels and answers of one training call are decode's own."""
    case, frames = case_of(name, frames=4), 4
    made, recorder = case.run_ring()
    o = case.objective
    labels = {u: code for (_, u), code in made.items()}
    totals = [o.frame_code({u: labels[u] for u in range(f * o.period, f * o.period + o.scales)}) for f in range(frames)]
    layout = compile_layout(single(range(frames * o.period - 1)), case.order, case.grids)
    given = Given(o, labels)
    seen, target, keep = type(o)(o.config, given, o.grid, o.dtype).prepare(
        torch.cat(totals)[None], layout, [Rng(0)], True
    )
    out = case.model(seen, layout, case.cond(layout))
    assert keep is None
    answers, inputs = {}, {}
    for call, sent, answer in recorder.calls:
        for slot in range(call.num_slots):
            if call.slots.cell[0, slot] >= 0:
                inputs[int(call.slots.site[0, slot])] = sent[0, slot]
                answers[int(call.slots.site[0, slot])] = answer[0, slot]
    for slot, site in enumerate(layout.slots.site[0].tolist()):
        unit = int(layout.slots.unit[0, slot])
        assert torch.equal(seen[0, slot], inputs[site]), f"unit {unit}"
        assert (out[0, slot] - answers[site]).abs().max() < 1e-12 * out.abs().max().clamp(min=1), f"unit {unit}"
        assert bool(target.weight[0, slot]) == (unit % o.period < o.scales)
    for u, label in labels.items():
        if u % o.period < o.scales:
            assert torch.equal(target.value[0, layout.slots.unit[0] == u], label)


class Given:
    """A pyramid whose labels are the given ones, so that training meets what decoding drew."""

    def __init__(self, objective, labels):
        self.inner, self.labels, self.o = objective.pyramid, labels, objective
        self.quantiser, self.sizes = self.inner.quantiser, self.inner.sizes
        self.seen, self.accumulate, self.down = self.inner.seen, self.inner.accumulate, self.inner.down

    def corrupt(self, latent, flip):
        o, rows = self.o, range(len(latent))
        labels = [torch.stack([self.labels[r * o.period + k].reshape(*self.sizes[k], -1) for r in rows])
                  for k in range(o.scales)]  # fmt: skip
        total, inputs = torch.zeros_like(latent), []
        for k in range(o.scales):
            inputs.append(self.seen(total, k))
            total = self.accumulate(total, flip(k, labels[k]), k)
        return type("Made", (), {"total": total, "labels": tuple(labels), "inputs": tuple(inputs)})


@pytest.mark.parametrize("name", WORLDS)
def test_p3_what_is_committed_is_what_it_was_predicted_from(name):
    case = case_of(name, frames=2)
    codes, o = {u: c for (_, u), c in case.run_ring()[0].items()}, case.objective
    for u in range(o.scales):
        past = Past({v: codes[v] for v in range(u)}, {})
        assert torch.equal(o.memory(u, codes[u], past, Rng(0)), o.inputs(u, o.start(u, past, Rng(0)), 0))
    content = o.frame_code(codes_of(codes, o, 0))
    assert torch.equal(o.memory(o.scales, content, Past({}, {}), Rng(0))[:, : o.channels], content)


def codes_of(codes, o, frame):
    return {u: codes[u] for u in range(frame * o.period, frame * o.period + o.scales)}


@pytest.mark.parametrize("name", WORLDS)
def test_p4_rewind_in_bits(name):
    case = case_of(name)
    o, window = case.objective, WORLDS[name].order.window
    steps, junk = calls(o, window + 3), calls(o, window + 2)
    inside = steps[: len(steps) - 1]  # in the middle of a frame
    after = [steps[-1], *calls(o, 2)]
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, inside)
    run(decoder(case), state, inside)
    mark = state.mark()
    run(decoder(case, seed=99), state, [steps[-1], *junk])
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight))
    assert same_codes(run(decoder(case), state, after), run(decoder(case), straight, after))


@pytest.mark.parametrize("name", WORLDS)
def test_p5_a_draw_or_an_action_moves_dependents_only(name):
    case = case_of(name, frames=4, endless=False)
    o = case.objective
    plain, _ = case.run_ring()
    units = {u for _, u in plain}
    source = o.period + 1
    rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
    changed = moved(plain, case.run_ring(rngs=rngs)[0], plain)
    assert source in changed and changed <= dependents(case, source) & units
    given = case.cond(None)
    other = Actions(given.values.clone(), given.unknown)
    action = WORLDS[name].actions.actions[0]
    other.values[0, 2, 0] = action.highest if float(given.values[0, 2, 0]) < action.highest else action.lowest
    logits = outputs(case, case.cond), outputs(case, lambda layout: other)
    same = {u for u in logits[0] if torch.equal(logits[0][u], logits[1][u])}
    assert {u for u in same if u < o.scales + 2 * o.period} >= set(range(2 * o.period - 1))
    assert not same & set(range(2 * o.period, 2 * o.period + o.scales))


def outputs(case, cond):
    """The answer for every unit."""
    found = {}
    for layout, _, out in case.run_ring(cond=cond)[1].calls:
        for unit in layout.slots.unit[0].unique().tolist():
            if unit >= 0:
                found[unit] = out[0, layout.slots.unit[0] == unit]
    return found


@pytest.mark.parametrize("name", WORLDS)
def test_p6_calls_and_ring(name):
    case = case_of(name)
    state = case.ring_state()
    case.run(state)
    o, world = case.objective, WORLDS[name]
    for ring in state.rings.values():
        memory = ring.slots.unit % o.period == o.scales
        frames = ring.slots.unit[memory & (ring.slots.cell >= 0)] // o.period
        assert len(set(frames.tolist())) == world.order.window  # the memory unit of the last frame still waits
    assert case.calls == (3 * world.order.window + 2) * o.scales


def test_there_are_recipes_to_test():
    assert {"videoar_doom", "videoar_shapes"} <= set(WORLDS)
