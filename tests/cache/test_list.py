"""The functional state: gradients through a rollout, detached commits, marks."""

import sys
from itertools import islice
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "parity"))
from cases import BY_NAME, endless_frames
from toys import OracleModel

from vidar.cache.list import ListState
from vidar.core.decode import Decoder
from vidar.core.step import endless


def gradients(case, state, model):
    """Of the sum of squares of all codes of a rollout, with respect to every weight."""
    case.model.zero_grad()
    player = Decoder(model, case.order, case.grids, case.objective, case.rngs, case.given, case.cond, case.combine)
    codes = [code for _, _, code in player(case.schedule(), state)]
    sum(code.square().sum() for code in codes).backward()
    return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in case.model.parameters()]


def largest(a, b):
    return max(float((x - y).abs().max() / y.abs().max().clamp_min(1e-12)) for x, y in zip(a, b))


def listed(case, detach=False):
    return case.ready(ListState.create(list(case.order.relations), len(case.grids), detach))


def test_gradients_through_a_rollout_equal_recomputation():
    """Keys of committed frames carry gradients, as if every call recomputed all committed rows."""
    for case in (endless_frames(False, past=2, count=4), BY_NAME["frame, image to video, fused"]):
        oracle = gradients(case, case.oracle(), OracleModel(case.model, case.order, case.cond))
        assert largest(gradients(case, listed(case), case.model), oracle) < 1e-10


def test_detached_commits_carry_no_gradient():
    case = endless_frames(False, past=2, count=4)
    state = listed(case, detach=True)
    detached = gradients(case, state, case.model)
    assert all(not k.requires_grad and not v.requires_grad for k, v in state.keys.values())
    assert largest(detached, gradients(case, listed(case), case.model)) > 1e-3
    assert all(float(g.abs().sum()) > 0 for g in detached)


def test_rewind_of_a_functional_state():
    case = endless_frames(True, past=2)
    steps = list(islice(endless(2, True), 20))
    a, b = listed(case), listed(case)
    player = Decoder(case.model, case.order, case.grids, case.objective, case.rngs, cond=case.cond)
    with torch.no_grad():
        for state in (a, b):
            list(player(steps[:9], state))
        mark = a.mark()
        list(player(steps[9:], a))
        a.rewind(mark)
        for x, y in zip(player(steps[9:], a), player(steps[9:], b), strict=True):
            assert x[:2] == y[:2] and torch.equal(x[2], y[2])
