"""P5 over every recipe with an Order: another draw, or another condition, moves what depends on it and nothing else."""

from dataclasses import replace

import pytest
import torch
from recipe_cases import case_of, conditions, otherwise, subjects, trained
from recipe_training import Clamped, latents
from test_p1b import TOLERANCE
from test_p5 import OneUnitOtherwise, dependents, moved

from vidar.core.layout import compile_layout
from vidar.core.relation import never
from vidar.core.step import single
from vidar.rng import Rng

SUBJECTS = subjects()
ACTED = [name for name, s in SUBJECTS.items() if s.model.actions is not None and s.model.actions.width]
TOLD_ONCE = [name for name, s in SUBJECTS.items() if s.model.actions is None]
PREDICTED = [name for name, s in SUBJECTS.items() if not s.refines]
SEGMENTS = [name for name, s in SUBJECTS.items() if not s.endless and s.known]


def run_of(name):
    """Case, codes and calls of a run of at least five units and three frames."""
    case, run = trained(name)
    return case, run.codes, run.recorder.calls


def sources_of(subject, units):
    """Units that are drawn otherwise: a later one, in each of two chunks where there are some; of a finite order all
    that are predicted, of segments two units of the first and one of the second."""
    if not subject.endless:
        return [*units[:2], units[len(units) // 2]] if subject.refines else units
    later = [unit for unit in units if unit >= subject.period]
    return later[1:2] if subject.depth == 1 else later[:: subject.depth + 1][:2]


@pytest.mark.parametrize("name", SUBJECTS)
def test_p5_a_draw_moves_dependents_only(name):
    """All of them where codes are real numbers; of labels the drawn one at least, unless it is one site's."""
    subject, (case, plain, calls) = SUBJECTS[name], run_of(name)
    units = {u for _, u in plain}
    for source in sources_of(subject, sorted(u for u in units if u not in case.given)):
        rngs = [OneUnitOtherwise(rng, source) for rng in case.rngs]
        changed = moved(plain, case.run_ring(rngs=rngs)[0], plain)
        allowed = dependents(case, source, calls=calls) & units
        assert changed <= allowed, f"unit {source} leaked into {sorted(changed - allowed)}"
        if subject.refines:
            assert changed == allowed, f"unit {source} did not reach {sorted(allowed - changed)}"
        else:
            assert source in changed or len(case.grids[0].sites(source)) == 1


def told_apart(case, calls, cond, other):
    """(unit, cell) of the rows to which the network tells something else under other conditions."""
    found = set()
    for layout, _, _ in calls:
        a, b = (case.model.condition(told, layout).modulation[0] for told in (cond, other))
        rows = zip(layout.row_unit[0].tolist(), layout.row_cell[0].tolist(), (a != b).any(-1).tolist())
        found |= {(unit, cell) for unit, cell, differs in rows if differs}
    return found


def outputs(calls):
    """The answers for every unit, by call."""
    rows = [(layout.slots.unit[0], out[0]) for layout, _, out in calls]
    return {(n, u): out[unit == u] for n, (unit, out) in enumerate(rows) for u in unit.unique().tolist() if u >= 0}


def frames_of(subject, frames):
    """Frames whose action is changed: one in the middle; of segments one in each."""
    wanted = [frames // 2] if subject.endless else [frames // 4 + 1, 3 * frames // 4 + 1]
    return [frame if frame % 5 else frame + 1 for frame in wanted]


@pytest.mark.parametrize("name", ACTED)
def test_p5_an_action_moves_dependents_only(name):
    """It is told to its own frame and to later ones; what is denoised moves where they are read, labels may stay."""
    subject, (case, plain, calls) = SUBJECTS[name], run_of(name)
    cond, units, cells = case.cond(None), {u for _, u in plain}, subject.period if subject.endless else 1
    for frame in frames_of(subject, cond.unknown.shape[1]):
        other = otherwise(subject.model, cond, frame)
        told = told_apart(case, calls, cond, other)
        assert min(cell // cells for _, cell in told) == frame
        heard = {unit for unit, _ in told}
        if subject.refines:
            changed = moved(plain, case.run_ring(cond=lambda layout, c=other: c)[0], plain)
            assert changed == dependents(case, heard, by_action=True, calls=calls) & units
        else:
            clamped = case.but(objective=Clamped(case.objective, {u: code for (_, u), code in plain.items()}))
            a, b = outputs(calls), outputs(clamped.run_ring(cond=lambda layout, c=other: c)[1].calls)
            same = {key for key in a if torch.equal(a[key], b[key])}
            assert {key for key in a if key[1] < min(heard)} <= same
            assert not {key for key in same if key[1] in heard}


@pytest.mark.parametrize("name", TOLD_ONCE)
def test_p5_a_condition_is_heard_by_every_call(name):
    subject, (case, plain, calls) = SUBJECTS[name], run_of(name)
    frozen = Clamped(case.objective, {u: code for (_, u), code in plain.items()})
    other = conditions(subject.model, None, 1)
    again = case.but(objective=frozen, cond=lambda layout: other).run_ring()[1].calls
    for (layout, _, a), (_, _, b) in zip(calls, again, strict=True):
        assert not torch.equal(a, b), f"unit {int(layout.slots.unit[0, 0])} does not hear its condition"


@pytest.mark.parametrize("name", PREDICTED)
def test_p5_units_left_out_change_nothing_before_them(name):
    """In training, with what it flips and hides, any prefix of the units gives its own part of the answers."""
    subject, case = SUBJECTS[name], case_of(name)
    o, units = case.objective, len(subject.rows[-1])
    codes, answers = latents(o, case.grids[0], range(units)), {}
    for count in (units, units - 1, units // 2):
        layout = compile_layout(single(range(count)), case.order, case.grids)
        seen, target, keep = o.prepare(codes, layout, [Rng(4)])
        with torch.no_grad():
            answers[count] = case.model(seen, layout.with_keep(keep), case.cond(layout)), target
    for count in (units - 1, units // 2):
        out, target = answers[count]
        size = out.shape[1]
        assert (out - answers[units][0][:, :size]).abs().max() < TOLERANCE * out.abs().max()
        assert torch.equal(target.value, answers[units][1].value[:, :size])


@pytest.mark.parametrize("name", PREDICTED)
def test_sites_of_equal_content_answer_for_themselves(name):
    """A rotation alone would not tell them apart where they see nobody else: attention mixes equal values."""
    subject, case = SUBJECTS[name], case_of(name)
    units = range(len(subject.rows[-1]))
    layout = compile_layout(single(units), case.order, case.grids)
    seen = case.objective.prepare(latents(case.objective, case.grids[0], units), layout, [Rng(0)], play=True)[0]
    seen[..., : case.objective.channels] = 0
    with torch.no_grad():
        out = case.model(seen, layout, case.cond(layout))[0]
    for u in units:
        answers = out[layout.slots.unit[0] == u]
        apart = torch.cdist(answers, answers) + torch.eye(len(answers))
        assert apart.min() > 1e-9, f"unit {u}"


@pytest.mark.parametrize("name", SEGMENTS)
def test_p5_segments_hang_on_one_another_by_what_is_known(name):
    """Each is a task of its own; the known units of the second come over a content edge from the last unit that is
    asked of all of the first, which alone moves both. Without the edge it is found out."""
    subject, (case, plain, calls) = SUBJECTS[name], run_of(name)
    clip = case.order.num_units // 2
    first, second = list(range(clip)), list(range(clip, 2 * clip))
    edges = case.order.content_edges()
    assert case.order.tasks() == [first, second] and case.order.needs is not None
    assert {u for u, _ in edges} == {clip + u for u in subject.known} and len({v for _, v in edges}) == 1
    plan, everything = edges[0][1], {u for _, u in plain}
    assert plan == len(subject.known)
    waves = 2 + clip - plan  # a plan each, and what fills the last one
    assert len(calls) == waves * subject.refines + 1
    after = {plan: everything, plan + 1: set(first[plan + 1 :]), clip + plan: set(second[plan:])}
    for source, expected in after.items():
        assert dependents(case, source, calls=calls) & everything == expected
    cond = case.cond(None)
    frames = cond.unknown.shape[1]
    for frame, expected in zip(frames_of(subject, frames), (everything, set(second[plan:]))):
        told = told_apart(case, calls, cond, otherwise(subject.model, cond, frame))
        assert {cell // (frames // 2) for _, cell in told} == {frame // (frames // 2)}
        assert dependents(case, {unit for unit, _ in told}, by_action=True, calls=calls) & everything == expected
    with pytest.raises(KeyError):
        case.but(order=replace(case.order, needs=never), schedule=case.schedule).run_ring()
