"""P1b over every recipe with an Order: cached decoding equals recomputation; after a context; guided; with twins."""

from dataclasses import replace
from itertools import islice
from math import prod

import pytest
import torch
from recipe_cases import case_of, conditions, in_play, one_of_each, played, subjects
from test_p1 import passes_of
from test_p1b import TOLERANCE, largest_difference

from vidar.core.schedules import OneByOne
from vidar.core.step import by_waves, prefill
from vidar.sampling.guidance import guide

SUBJECTS = subjects()
WAYS = [(name, fused) for name, s in SUBJECTS.items() for fused in (True, False) if fused or s.commits_apart]
ENDLESS = [name for name, s in SUBJECTS.items() if s.endless]
IN_TURN = [name for name in ENDLESS if SUBJECTS[name].depth == 1]
CONTEXTS = [(name, known) for name in IN_TURN for known in (1, 2, 6) if not SUBJECTS[name].refines]
CONTEXTS += [(name, 5) for name in one_of_each(IN_TURN) if SUBJECTS[name].refines]
GUIDED = [name for name, s in SUBJECTS.items() if s.model.actions is None or s.model.guidance is not None]
CLIPS = [name for name, s in SUBJECTS.items() if len(getattr(s.usual.objective, "pyramids", ())) > 1]


@pytest.mark.parametrize("name, fused", WAYS)
def test_p1b_cached_decoding_equals_recomputation(name, fused):
    case, (codes, recorder, _) = case_of(name, fused), played(name, fused)
    assert largest_difference((codes, recorder), case.run_oracle()) < TOLERANCE
    assert len(recorder.calls) == case.calls
    if SUBJECTS[name].endless:
        assert len(codes) > 3 * (case.order.reach + 1 - SUBJECTS[name].depth)
    else:
        assert {u for _, u in codes} | case.codes.keys() == set(range(case.order.num_units))
        assert SUBJECTS[name].refines or case.calls == case.order.num_units  # one call a scale


@pytest.mark.parametrize("name, known", CONTEXTS)
def test_p1b_after_a_context(name, known):
    """Frames are given as the map lays them on units; the last of these rides on the first call."""
    subject, case = SUBJECTS[name], case_of(name)
    o, where, sites = case.objective, subject.usual.frames, prod(subject.model.sites)
    size, generator = (known, 1, subject.unit_frames, sites, o.channels), torch.Generator().manual_seed(1)
    groups = torch.randn(size, generator=generator, dtype=torch.float64)
    codes = {unit: code for g, group in enumerate(groups) for unit, code in where.split(g, group).items()}
    *whole, _ = codes
    first = [prefill(whole, advance=known * subject.period)] if whole else []
    new = subject.model.order.window + 1
    steps = [*first, *islice(in_play(subject, o), new * len(OneByOne().group(o, where)))]
    case = case.but(codes=codes, clock=0 if whole else subject.period, schedule=lambda: iter(steps))
    ring = case.run_ring()
    assert {u for _, u in ring[0]} >= set(range(known * subject.period, (known + new) * subject.period - 1))
    assert largest_difference(ring, case.run_oracle()) < TOLERANCE


@pytest.mark.parametrize("name", CLIPS)
def test_p1b_given_pyramids_stay_and_the_rest_is_as_if_they_had_been_drawn(name):
    """Image to video and continuation: only the last scale of the given pyramid is read, so only it is committed."""
    case, free = case_of(name), played(name).codes
    o = case.objective
    for known in range(1, len(o.pyramids)):
        given = {u: free[0, u][None] for u in range(known * o.scales)}
        steps = list(by_waves(case.order, o.passes, given))
        clamped = case.but(codes=given, schedule=lambda steps=steps: iter(steps))
        ring, oracle = clamped.run_ring(), clamped.run_oracle()
        assert largest_difference(ring, oracle) < TOLERANCE
        assert len(ring[1].calls) == case.calls - known * o.scales + 1  # one prefill
        assert all(torch.equal(code, free[key]) for key, code in ring[0].items())
        assert {u for _, u in ring[0]} == set(range(known * o.scales, case.order.num_units))


class Answered:
    """An objective that is answered by unit and step, whatever the model says."""

    def __init__(self, inner, answers):
        self.inner, self.answers = inner, answers

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def update(self, unit, x, out, step, rng):
        return self.inner.update(unit, x, self.answers[unit, step], step, rng)


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_is_rows_of_one_forward(name):
    """Two rows: both make the same, the answers are those of two runs of their own, and what is hidden is not heard."""
    subject = SUBJECTS[name]
    frames = 2 if subject.endless else None
    case, weight = case_of(name, frames=frames), torch.tensor([2.5], dtype=torch.float64)

    def told(which=0, none=(False,)):
        cond = conditions(subject.model, frames, which, none)
        return lambda layout: cond

    def combine(out):
        return guide(out, weight)

    guided = case.but(grids=case.grids * 2, cond=told(none=(False, True)), videos=[0, 0], combine=combine)
    codes, recorder = guided.run_ring()
    assert all(torch.equal(codes[0, u], codes[1, u]) for _, u in codes)
    answers = {(unit, step): combine(out)[0] for (unit, _, step), (_, out) in passes_of(guided, recorder).items()}
    answered = case.but(objective=Answered(case.objective, answers))
    alone = [answered.but(cond=told(none=(none,))).run_ring()[1] for none in (False, True)]
    for (_, _, out), (_, _, with_it), (_, _, without) in zip(recorder.calls, *(a.calls for a in alone), strict=True):
        assert len(out) == 2
        assert (out[0] - with_it[0]).abs().max() < TOLERANCE * out.abs().max()
        assert (out[1] - without[0]).abs().max() < TOLERANCE * out.abs().max()
    hidden, other = (case.but(cond=told(which, (True,))).run_ring()[0] for which in (0, 1))
    assert all(torch.equal(other[key], hidden[key]) for key in hidden), "a hidden condition is heard"


# twins: each of these must fail


def changed(case, relation, **changes):
    relations = {**case.order.relations, relation: replace(case.order.relations[relation], **changes)}
    return case.but(order=replace(case.order, relations=relations))


def far_away(grid, begin):
    """The same sites, those from one on at twice their coordinates."""
    return replace(grid, coord=lambda site: grid.coord(site) * torch.where(site < begin, 1, 2)[..., None])


@pytest.mark.parametrize("name", one_of_each(ENDLESS))
def test_p1b_twins_fail(name):
    """A ring one frame short; one rule for what is committed and what is in flight; keys at other positions."""
    subject = SUBJECTS[name]
    window = subject.model.order.window * subject.unit_frames
    case = case_of(name, frames=window + 3 * subject.unit_frames * subject.depth)
    frame = sum(len(case.grids[0].sites(unit)) for unit in range(subject.period))
    half = int(case.grids[0].sites((window // subject.unit_frames + 1) * subject.period).min())
    oracle = case.run_oracle()
    twins = {"positions": case.but(grids=[far_away(case.grids[0], half)])}
    for relation, rules in case.order.relations.items():
        if rules.capacity:
            twins[f"{relation}, short ring"] = changed(case, relation, capacity=rules.capacity - frame, placement=None)
        if rules.memory is not None:
            twins[f"{relation}, one rule"] = changed(case, relation, memory=None)
    for what, twin in twins.items():
        assert largest_difference(twin.run_ring(), oracle) > 1e-6, what
