"""What the objective of a plan has of its own: hint, beginning, weight."""

import pytest
import torch

from vidar.objectives.anchor_hint import AnchorHintConfig
from vidar.objectives.begin import AnchorBeginConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.weights import BellWeightConfig, EvenWeightConfig
from vidar.orders.plan import I2V, T2V, paired, plan_order
from vidar.rng import Rng
from vidar.types import Past


def numbered(map, segment=0, sites=2):
    """unit -> code whose rows say which frame they are of: 100 s + t, and which site."""
    codes = {}
    for step in range(map.units):
        rows = [[100.0 * segment + t, site] for t in map.frames(step) for site in range(sites)]
        codes[segment * map.units + step] = torch.tensor(rows)
    return codes


@pytest.mark.parametrize("map", [T2V, I2V, paired(12)])
def test_the_hint_is_the_nearest_frame_before_that_is_known(map):
    """Against a search through the frames; in segment 1, and what it reads is what it says it needs."""
    codes, hint = numbered(map, segment=1), AnchorHintConfig(map=map).build(2)
    for unit, code in codes.items():
        asked = set()

        def committed(v, asked=asked):
            asked.add(v)
            return codes[v]

        made = hint(unit, committed, code).unflatten(0, (-1, 2))
        for row, t in zip(made, map.frames(unit - map.units), strict=True):
            known = [s for s in range(t) if map.steps[s] < map.steps[t]]
            expected = [[100.0 + known[-1], site] for site in range(2)] if known else [[0.0, 0.0]] * 2
            assert row.tolist() == expected
        others = torch.arange(2 * map.units)
        needed = hint.needs(torch.full_like(others, unit), others).nonzero()[:, 0].tolist()
        assert set(needed) == asked


def flow(map, sigma):
    _, grid = plan_order(2, map, 1, 2)
    return FlowConfig(begin=AnchorBeginConfig(map=map, sigma=sigma)).build(2, grid, torch.float64)


def test_ends_of_a_fill_begin_at_noised_anchors():
    """x = (1 - sigma) anchor + sigma noise at the first and last frame; left and right as in 1.6: (3, 10), (12, 19)."""
    for sigma in (1.0, 0.9):
        objective = flow(T2V, sigma)
        codes = {unit: code.double() for unit, code in numbered(T2V, 1).items()}
        for unit, ends in ((6, (3, 10)), (7, (12, 19))):
            noise = objective.noise(unit, Rng(0)).unflatten(0, (6, 2))
            x = objective.start(unit, Past(codes, {}), Rng(0)).x.unflatten(0, (6, 2))
            assert torch.equal(x[1:-1], noise[1:-1])
            for place, anchor in zip((0, -1), ends):
                told = torch.tensor([[100.0 + anchor, site] for site in range(2)], dtype=torch.float64)
                torch.testing.assert_close(x[place], (1 - sigma) * told + sigma * noise[place])
        assert torch.equal(objective.start(5, Past(codes, {}), Rng(0)).x, objective.noise(5, Rng(0)))


def test_sigma_1_is_off_to_the_bit_and_needs_nothing():
    """The released code's level ends up at 1: plain noise."""
    units = torch.arange(8)
    for sigma in (1.0, 0.9):
        objective = flow(T2V, sigma)
        needs = objective.needs(units[:, None], units[None, :])
        assert bool(needs.any()) == (sigma < 1)
    assert torch.equal(flow(T2V, 1.0).start(2, Past({}, {}), Rng(0)).x, flow(T2V, 1.0).noise(2, Rng(0)))


def test_bell_weight_is_the_formula():
    """1.5, entry by entry of the table, in plain Python; its mean over the table is 1."""
    n, weight = 1000, BellWeightConfig().build()
    table = [5 * (1 - i / n) / (1 + 4 * (1 - i / n)) * n for i in range(n)]
    y = [2.718281828459045 ** (-2 * ((t - n / 2) / n) ** 2) for t in table]
    w = [value - min(y) for value in y]
    mean = sum(w) / n
    levels = torch.tensor([[t / n for t in table]], dtype=torch.float64)
    torch.testing.assert_close(weight(levels)[0], torch.tensor([value / mean for value in w], dtype=torch.float64))
    assert float(weight(levels).mean()) == pytest.approx(1) and float(weight(torch.zeros(1, 1))) == 0
    assert weight(torch.tensor([[0.5]])) > weight(torch.tensor([[0.9]]))
    assert EvenWeightConfig().build() is None
