"""Staggered units against the schedules as their papers write them, slow and by themselves."""

import math
from itertools import islice

import pytest

from vidar.core.schedules import in_flight, staggered
from vidar.core.step import chunk, endless
from vidar.types import MEMORY, QUERY


def absolute(steps):
    """Per call: refinements {unit: step} and commits {unit}, units counted from 0."""
    clock, calls = 0, []
    for step in steps:
        rows = [(clock + row.unit, row) for row in step.rows if clock + row.unit >= 0]
        calls.append(({u: r.step for u, r in rows if r.role == QUERY}, {u for u, r in rows if r.role == MEMORY}))
        clock += step.advance
    return calls


def refinements(calls):
    return [steps for steps, _ in calls if steps]


def scheduling_matrix(units, steps, scale):
    """Diffusion Forcing: K[m, f] = clip(N + int(u f) - m, 0, N); a unit is refined where its level falls."""
    made, m = [], 0
    while True:
        before, after = ([min(max(steps + int(scale * f) - k, 0), steps) for f in range(units)] for k in (m, m + 1))
        if not any(before):
            return made
        made.append({f: steps - k for f, (k, then) in enumerate(zip(before, after)) if then < k})
        m += 1


def stages(units, steps, window):
    """MAGI-1: at stage g the units g - W + 1 .. g are active, unit c at step (n / W) (g - c) + i."""
    per, made = steps // window, []
    for g in range(units + window - 1):
        for i in range(per):
            active = [c for c in range(g - window + 1, g + 1) if 0 <= c < units]
            made.append({c: per * (g - c) + i for c in active})
    return made


def state_matrix(units, steps, ar_step):
    """SkyReels-V2: the first unit and those behind a finished one go on by 1, others stay `ar_step` behind."""
    before, made = [0] * units, []
    while any(value < steps for value in before):
        row = []
        for i in range(units):
            on = i == 0 or before[i - 1] == steps
            row.append(min(max(before[i] + 1 if on else row[i - 1] - ar_step, 0), steps))
        made.append({i: then - 1 for i, (now, then) in enumerate(zip(before, row)) if then > now})
        before = row
    return made


def rolling(units, depth):
    """Rolling Forcing: windows of `depth` units, the first the cleanest; truncated at the start and at the end."""
    made = []
    for last in range(units + depth - 1):
        window = [u for u in range(last - depth + 1, last + 1) if 0 <= u < units]
        made.append({u: last - u for u in window})
    return made


@pytest.mark.parametrize(("units", "steps", "scale"), [(1, 3, 1.0), (5, 4, 1.0), (6, 4, 1.5), (7, 3, 0.4), (4, 3, 3.0)])
def test_pyramid_is_the_scheduling_matrix(units, steps, scale):
    made = absolute(staggered(units, steps, scale))
    assert refinements(made) == scheduling_matrix(units, steps, scale)
    assert len(made) == math.floor(scale * (units - 1)) + steps + 1
    assert max(len(call) for call, _ in made) <= in_flight(steps, scale)


@pytest.mark.parametrize(("units", "steps", "window"), [(5, 4, 2), (1, 4, 4), (6, 6, 3), (3, 8, 4), (9, 2, 1)])
def test_pipeline_is_the_stages_of_magi(units, steps, window):
    made = absolute(staggered(units, steps, steps // window))
    assert refinements(made) == stages(units, steps, window)
    assert len(refinements(made)) == steps // window * (units + window - 1)
    assert len(made) == len(refinements(made)) + 1  # and the last commit


@pytest.mark.parametrize("ar_step", [0, 1, 2, 3, 5, 9])
def test_asynchronous_is_the_state_matrix(ar_step):
    units, steps = 4, 5
    made = refinements(absolute(staggered(units, steps, min(ar_step, steps))))
    assert made == state_matrix(units, steps, ar_step)
    assert len(made) == min(ar_step, steps) * (units - 1) + steps


@pytest.mark.parametrize(("units", "depth"), [(8, 5), (2, 5), (5, 1)])
def test_rolling_is_the_truncated_windows(units, depth):
    made = absolute(staggered(units, depth, 1, fused=False))
    assert refinements(made) == rolling(units, depth)
    assert len(refinements(made)) == units + depth - 1 and len(made) == units + depth - 1 + units


def test_each_unit_is_committed_once_after_its_last_step():
    for delay in (0.6, 1, 2, 4):
        for fused in (True, False):
            made, last = absolute(staggered(7, 4, delay, fused)), {}
            for call, (steps, commits) in enumerate(made):
                assert all(last[unit] == call - 1 for unit in commits)
                last |= {unit: call for unit, step in steps.items() if step == 3}
            assert sorted(u for _, commits in made for u in commits) == list(range(7))


def test_a_delay_of_all_steps_is_one_by_one():
    for fused in (True, False):
        ours, known = (list(islice(steps, 12)) for steps in (staggered(None, 3, 3, fused), endless(3, fused)))
        assert ours[1:] == known[1:] and ours[0].advance == known[0].advance
        assert set(ours[0].rows) == {row for row in known[0].rows if row.unit >= 0}


def test_no_delay_is_a_chunk_and_one_is_the_pipeline():
    for fused in (True, False):
        assert list(staggered(4, 3, 0, fused)) == list(chunk(4, 4, 3, fused))
    pipeline = [({c - i: i for i in range(3) if 0 <= c - i < 6}, {c - 3} if c >= 3 else set()) for c in range(9)]
    assert absolute(staggered(6, 3, 1)) == pipeline


def test_without_an_end_it_begins_alike():
    for delay in (0.5, 1, 1.7, 4):
        endlessly = absolute(islice(staggered(None, 4, delay), 30))
        assert endlessly == absolute(staggered(99, 4, delay))[:30]


@pytest.mark.parametrize(("units", "delay"), [(None, 0), (3, -1), (3, 4.5), (None, float("nan"))])
def test_what_cannot_run_is_refused(units, delay):
    with pytest.raises(ValueError, match="it must lie in"):
        next(staggered(units, 4, delay))
