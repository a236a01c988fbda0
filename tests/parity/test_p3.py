"""P3: `prepare` equals start / inputs / memory fed one unit at a time, with the same Rng keys and play's context."""

import pytest
import torch
from cases import BY_NAME, CHANNELS, Case, latents
from toys import NextRing

from vidar.core.layout import compile_layout
from vidar.core.step import single, twin
from vidar.objectives.context import ContextNoiseConfig, with_level
from vidar.objectives.flow import FlowConfig
from vidar.rng import Rng
from vidar.types import Past

NOBODYS = Past({}, {})


def flow_case(context_level=0.05):
    case: Case = BY_NAME["frame, eager"]
    config = FlowConfig(steps=4, context=ContextNoiseConfig(level=context_level))
    return case.but(objective=config.build(CHANNELS, case.grids[0], torch.float64))


def prepared(case, rows, **options):
    codes = torch.cat([latents(case.grids[0], range(4))[u] for u in range(4)], dim=1)
    layout = compile_layout(rows, case.order, case.grids)
    return codes, layout, case.objective.prepare(codes, layout, [Rng(3, 9)], **options)


def test_flow_twin_rows_are_what_decode_commits_and_starts_from():
    case = flow_case()
    codes, layout, (seen, target, keep) = prepared(case, twin(range(4)), play=True, levels=torch.ones(1, 8))
    rng, o = Rng(3, 9), case.objective
    expected = [o.memory(u, codes[0, 2 * u : 2 * u + 2], NOBODYS, rng) for u in range(4)]
    expected += [o.inputs(u, o.start(u, NOBODYS, rng), 0) for u in range(4)]
    assert torch.equal(seen[0], torch.cat(expected))
    assert keep is None and torch.equal(target.weight[0], torch.tensor([0.0] * 8 + [1.0] * 8, dtype=torch.float64))
    noise = torch.cat([o.noise(u, rng) for u in range(4)])
    assert torch.equal(target.value[0, 8:], noise - codes[0])


def test_flow_levels_lie_on_the_path_decode_walks():
    """With the true velocity as the model, every solver state of decode is what `prepare` gives at that level."""
    case = flow_case()
    rng, o = Rng(3, 9), case.objective
    for i, level in enumerate(o.calls):
        codes, layout, (seen, target, _) = prepared(case, single(range(4)), levels=torch.full((1, 4), level))
        for u in range(4):
            x = o.start(u, NOBODYS, rng)
            for step in range(i):
                x = o.update(u, x, target.value[0, 2 * u : 2 * u + 2], step, rng)
            torch.testing.assert_close(seen[0, 2 * u : 2 * u + 2], o.inputs(u, x, i), rtol=0, atol=1e-13)


def test_flow_play_level_lies_in_the_training_support():
    case = flow_case()
    levels = {float(prepared_level(case, n)) for n in range(400)}
    config = case.objective.context.config
    assert min(levels) < config.level < max(levels) <= config.most
    with pytest.raises(ValueError, match="must lie in"):
        ContextNoiseConfig(most=0.1, level=0.2).build()


def prepared_level(case, video):
    layout = compile_layout(twin(range(4)), case.order, case.grids)
    codes = torch.zeros(1, 8, CHANNELS, dtype=torch.float64)
    return case.objective.prepare(codes, layout, [Rng(0, video)])[0][0, 0, -1]


def test_twin_other_context_level_fails():
    """Noise of 0.3 committed where 0.05 was trained for."""
    a = flow_case(0.05).objective
    b = flow_case(0.3).objective
    code = torch.ones(2, CHANNELS, dtype=torch.float64)
    assert (a.memory(0, code, NOBODYS, Rng(0)) - b.memory(0, code, NOBODYS, Rng(0))).abs().max() > 0.1
    assert torch.equal(a.memory(0, code, NOBODYS, Rng(0))[:, -1:], with_level(code, 0.05)[:, -1:])


def decoded(name):
    case = BY_NAME[name]
    codes, recorder = case.run_ring()
    return case, {u: c for (_, u), c in codes.items()}, recorder


def seen_by_decode(case, recorder):
    """Committed inputs in site order."""
    pieces = {}
    for layout, inputs, _ in recorder.calls:
        for slot in torch.nonzero((layout.slots.role[0] == 1) & (layout.slots.cell[0] >= 0))[:, 0].tolist():
            pieces[int(layout.slots.site[0, slot])] = inputs[0, slot]
    return pieces


@pytest.mark.parametrize("name", ["token raster", "token raster, prefilled"])
def test_next_token_prepare_equals_decode(name):
    case, made, recorder = decoded(name)
    codes = {**{u: c[0] for u, c in case.codes.items()}, **made}
    labels = torch.cat([codes[u] for u in range(12)])[None]
    layout = compile_layout(single(range(12)), case.order, case.grids)
    seen, target, _ = case.objective.prepare(labels, layout, [Rng(0)])
    pieces = seen_by_decode(case, recorder)
    assert torch.equal(seen[0], torch.stack([pieces[n] for n in range(12)])) and torch.equal(target.value, labels)


SCALES = ["scales of an image", "clip x scale, needs != sees", "frame x scale with memory unit"]


@pytest.mark.parametrize("name", SCALES)
def test_next_scale_prepare_equals_decode(name):
    case, made, recorder = decoded(name)
    units = case.order.num_units - (1 if case.objective.memory_unit else 0)  # nobody reads the last memory unit
    labels = {u: c for u, c in made.items() if u not in case.given}
    layout = compile_layout(single(range(units)), case.order, case.grids)
    seen, target, _ = case.objective.prepare([labels], layout, [Rng(0)])
    pieces = seen_by_decode(case, recorder)
    sites = layout.slots.site[0].tolist()
    assert torch.equal(seen[0], torch.stack([pieces[n] for n in sites]))
    for u, label in labels.items():
        assert torch.equal(target.value[0, layout.slots.unit[0] == u], label)


def test_next_scale_commit_is_the_input_of_the_pass_that_predicts():
    case, made, _ = decoded("scales of an image")
    for u in range(3):
        past = Past({v: made[v] for v in range(u)}, {})
        o = case.objective
        assert torch.equal(o.memory(u, made[u], past, Rng(0)), o.inputs(u, o.start(u, past, Rng(0)), 0))


def test_next_ring_reads_outputs_of_the_ring_before():
    case, made, recorder = decoded("ring")
    outs = {}
    for layout, _, out in recorder.calls:
        outs[int(layout.slots.unit[0, 0])] = out[0]
    for u in range(1, 6):
        assert torch.equal(case.objective.start(u, Past({}, {u - 1: outs[u - 1]}), case.rngs[0]), made[u])
    with pytest.raises(KeyError):  # twin: the wrong predecessor is not even in `past`
        case.but(objective=NextRing(case.objective.book, case.grids[0], lag=2)).run_ring()
