"""The property suite over every recipe that makes pictures scale by scale, tiny, in float64."""

import pytest
import torch
from cases import Case
from test_p1 import difference, passes_of
from test_p1b import TOLERANCE, largest_difference
from test_p4 import decoder, run, same_bits, same_codes, tensors
from test_p5 import OneUnitOtherwise, dependents, moved

from vidar.conditioning.label import LabelEmbedConfig
from vidar.conditioning.text import ByteEncoderConfig, utf8
from vidar.configs.catalog import find_pictures, recipes
from vidar.core.layout import compile_layout
from vidar.core.step import by_waves, single
from vidar.rng import Rng
from vidar.sampling.guidance import guide
from vidar.types import MEMORY, Past

PICTURES = {name: found for name, recipe in recipes().items() if (found := find_pictures(recipe(preset="tiny")))}
CLIPS = [name for name, pictures in PICTURES.items() if pictures.frames > 1]


def told_of(pictures, which):
    """A class or a text, two of them by number."""
    conditioner = pictures.net.conditioner
    if isinstance(conditioner, LabelEmbedConfig):
        return torch.tensor([which]), torch.ones(1, dtype=torch.bool)
    if isinstance(conditioner.encoder, ByteEncoderConfig):
        return utf8([("a red ring", "blue")[which]], 64)
    features = torch.randn(1, 5 - which, conditioner.encoder.width, generator=torch.Generator().manual_seed(which))
    return features.double(), torch.ones(1, 5 - which, dtype=torch.bool)


def conditions(pictures, which=0, none=False):
    return pictures.conditions(*told_of(pictures, which), torch.tensor([none]))


def case_of(name):
    pictures = PICTURES[name]
    torch.manual_seed(0)
    pyramid = pictures.tokenizer.pyramid.build()
    with torch.no_grad():
        for parameter in pyramid.parameters():  # a codebook, convolutions
            parameter.add_(torch.randn_like(parameter) * 0.5)
    order, grid, objective = pictures.system(dtype=torch.float64, pyramid=pyramid)
    net = pictures.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    told = conditions(pictures)
    schedule = lambda: by_waves(order, objective.passes)  # noqa: E731
    return Case(name, order, [grid], objective, schedule, order.num_units, "single", net, cond=lambda layout: told)


@pytest.mark.parametrize("name", PICTURES)
def test_p1b_cached_decoding_equals_recomputation(name):
    case = case_of(name)
    ring, oracle = case.run_ring(), case.run_oracle()
    assert largest_difference(ring, oracle) < TOLERANCE
    assert len(ring[1].calls) == case.calls  # one call a scale


@pytest.mark.parametrize("name", PICTURES)
def test_p1_training_forward_equals_decode_passes(name):
    assert difference(case_of(name)) < TOLERANCE


class Clamped:
    """An objective whose labels are given, whatever the model answers."""

    def __init__(self, inner, labels):
        self.inner, self.labels = inner, labels

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def update(self, unit, x, out, step, rng):
        return self.labels[unit]


@pytest.mark.parametrize("name", PICTURES)
def test_p1_and_p3_training_is_decoding_with_its_labels(name):
    """Inputs in bits, answers to rounding: teacher forcing in one call against scale after scale from the cache."""
    case = case_of(name)
    o, grid = case.objective, case.grids[0]
    layout = compile_layout(single(range(case.order.num_units)), case.order, case.grids)
    latents = sum(p.sizes[-1][0] * p.sizes[-1][1] * p.sizes[-1][2] for p in o.pyramids)
    codes = torch.randn(1, latents, o.channels, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    seen, target, keep = o.prepare(codes, layout, [Rng(0)], play=True)
    assert keep is None and (target.weight > 0).all()
    with torch.no_grad():
        out = case.model(seen, layout, case.cond(layout))
    labels = {u: target.value[0, layout.slots.unit[0] == u] for u in range(case.order.num_units)}
    played = case.but(objective=Clamped(o, labels))
    table = passes_of(played, played.run_ring()[1])
    for u in labels:
        inputs, answers = table[u, MEMORY, 0]
        rows = layout.slots.unit[0] == u
        assert len(grid.sites(u)) == int(rows.sum())
        assert torch.equal(seen[:, rows], inputs), f"unit {u}"
        assert (out[:, rows] - answers).abs().max() < TOLERANCE * out.abs().max(), f"unit {u}"


@pytest.mark.parametrize("name", PICTURES)
def test_p3_what_is_committed_is_what_it_was_predicted_from(name):
    case = case_of(name)
    codes, o = {u: c for (_, u), c in case.run_ring()[0].items()}, case.objective
    for u in codes:
        past = Past({v: codes[v] for v in codes if case.order.need(u, v)}, {})
        assert torch.equal(o.memory(u, codes[u], past, Rng(0)), o.inputs(u, o.start(u, past, Rng(0)), 0))


@pytest.mark.parametrize("name", PICTURES)
def test_p4_rewind_in_bits(name):
    case = case_of(name)
    steps = list(case.schedule())
    half = max(1, len(steps) // 2)
    straight, state = case.ring_state(), case.ring_state()
    run(decoder(case), straight, steps[:half])
    run(decoder(case), state, steps[:half])
    mark = state.mark()
    run(decoder(case, seed=99), state, steps[half:])
    assert not same_bits(tensors(state), tensors(straight))
    state.rewind(mark)
    assert same_bits(tensors(state), tensors(straight))
    assert same_codes(run(decoder(case), state, steps[half:]), run(decoder(case), straight, steps[half:]))


@pytest.mark.parametrize("name", PICTURES)
def test_p5_a_draw_moves_dependents_only_and_the_condition_all(name):
    case = case_of(name)
    plain, recorder = case.run_ring()
    units = {u for _, u in plain}
    for source in units:
        rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
        changed = moved(plain, case.run_ring(rngs=rngs)[0], plain)
        assert changed <= dependents(case, source) & units
        assert source in changed or case.grids[0].sites(source).shape[0] == 1  # one site may draw the same label again
    other = conditions(PICTURES[name], 1)
    frozen = Clamped(case.objective, {u: plain[0, u] for u in units})
    one, two = (case.but(objective=frozen, cond=lambda layout, c=c: c).run_ring()[1] for c in (case.cond(None), other))
    for (layout, _, a), (_, _, b) in zip(one.calls, two.calls):
        assert not torch.equal(a, b), f"unit {int(layout.slots.unit[0, 0])} does not hear its condition"


@pytest.mark.parametrize("name", PICTURES)
def test_sites_of_equal_content_answer_for_themselves(name):
    """A rotation alone would not tell them apart where they see nobody else: attention mixes equal values."""
    case = case_of(name)
    layout = compile_layout(single(range(case.order.num_units)), case.order, case.grids)
    seen = torch.zeros(1, layout.num_slots, case.objective.input_width, dtype=torch.float64)
    o, unit = case.objective, layout.slots.unit[0]
    for u in range(case.order.num_units):
        pyramid, k = o.pyramids[u // o.scales], u % o.scales
        equal = torch.zeros(1, o.channels, *pyramid.sizes[k], dtype=torch.float64)
        seen[:, unit == u] = o._inputs(equal, k)
    with torch.no_grad():
        out = case.model(seen, layout, case.cond(layout))[0]
    for u in range(case.order.num_units):
        answers = out[unit == u]
        apart = torch.cdist(answers, answers) + torch.eye(len(answers))
        assert apart.min() > 1e-9, f"unit {u}"


@pytest.mark.parametrize("name", PICTURES)
def test_p5_scales_left_out_change_nothing_before_them(name):
    """In training, any prefix of the units gives its own part of the answers."""
    case = case_of(name)
    o, units = case.objective, case.order.num_units
    latents = sum(p.sizes[-1][0] * p.sizes[-1][1] * p.sizes[-1][2] for p in o.pyramids)
    codes = torch.randn(1, latents, o.channels, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    answers = {}
    for count in (units, units - 1, units // 2):
        layout = compile_layout(single(range(count)), case.order, case.grids)
        seen, target, _ = o.prepare(codes, layout, [Rng(4)])
        with torch.no_grad():
            answers[count] = case.model(seen, layout, case.cond(layout)), target
    for count in (units - 1, units // 2):
        out, target = answers[count]
        size = out.shape[1]
        assert (out - answers[units][0][:, :size]).abs().max() < TOLERANCE * out.abs().max()
        assert torch.equal(target.value, answers[units][1].value[:, :size])


@pytest.mark.parametrize("name", PICTURES)
def test_p6_calls_and_ring(name):
    case = case_of(name)
    state = case.ring_state()
    case.run(state)
    assert case.calls == len(case.objective.pyramids) * case.objective.scales
    for ring in state.rings.values():
        assert int((ring.slots.cell >= 0).sum()) == ring.k.shape[2] == case.grids[0].num_sites


@pytest.mark.parametrize("name", PICTURES)
def test_guidance_is_rows_of_one_forward(name):
    """Two rows a picture: joined answers are those of two separate runs, and both rows draw the same labels."""
    case, pictures = case_of(name), PICTURES[name]
    told, mask = told_of(pictures, 0)
    both = pictures.conditions(torch.cat([told, told]), torch.cat([mask, mask]), torch.tensor([False, True]))
    weight = torch.tensor([2.5], dtype=torch.float64)
    guided = Case(name, case.order, case.grids * 2, case.objective, case.schedule, case.calls, "single", case.model,
                  cond=lambda layout: both, combine=lambda out: guide(out, weight), videos=[0, 0])  # fmt: skip
    codes, recorder = guided.run_ring()
    assert all(torch.equal(codes[0, u], codes[1, u]) for u in range(case.order.num_units))
    frozen = Clamped(case.objective, {u: codes[0, u] for u in range(case.order.num_units)})
    alone = [
        case.but(objective=frozen, cond=lambda layout, n=n: conditions(pictures, 0, n)).run_ring()[1]
        for n in (False, True)
    ]
    for (_, _, out), (_, _, with_it), (_, _, without) in zip(recorder.calls, *(a.calls for a in alone)):
        assert len(out) == 2
        assert (out[0] - with_it[0]).abs().max() < TOLERANCE * out.abs().max()
        assert (out[1] - without[0]).abs().max() < TOLERANCE * out.abs().max()
    other = case.but(cond=lambda layout: conditions(pictures, 1, True)).run_ring()[0]
    hidden = case.but(cond=lambda layout: conditions(pictures, 0, True)).run_ring()[0]
    assert all(torch.equal(other[key], hidden[key]) for key in hidden), "a hidden condition is heard"


@pytest.mark.parametrize("name", CLIPS)
def test_given_pyramids_stay_and_the_rest_is_as_if_they_had_been_drawn(name):
    """Image to video and continuation: only the last scale of the given pyramid is read, so only it is committed."""
    case = case_of(name)
    o, free = case.objective, case.run_ring()
    for known in range(1, len(o.pyramids)):
        given = {u: free[0][0, u][None] for u in range(known * o.scales)}
        steps = list(by_waves(case.order, o.passes, given))
        clamped = case.but(codes=given, schedule=lambda steps=steps: iter(steps))
        ring, oracle = clamped.run_ring(), clamped.run_oracle()
        assert largest_difference(ring, oracle) < TOLERANCE
        assert len(ring[1].calls) == case.calls - known * o.scales + 1  # one prefill
        assert all(torch.equal(code, free[0][key]) for key, code in ring[0].items())
        assert {u for _, u in ring[0]} == set(range(known * o.scales, case.order.num_units))


def test_there_are_recipes_to_test():
    systems = {"var", "infinity", "infinitystar"}
    assert {*systems, *(f"{name}_shapes" for name in systems)} == set(PICTURES)
    assert CLIPS == ["infinitystar", "infinitystar_shapes"]
