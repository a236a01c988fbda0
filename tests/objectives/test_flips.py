"""Flips of labels: the rate of each row and scale, every other class, rows alone."""

import pytest
import torch

from vidar.objectives.flips import random_flips
from vidar.rng import Rng
from vidar.types import UsageError


def test_flips_draw_one_rate_per_row_and_scale():
    labels, rngs = torch.zeros(2, 1, 40, 40, 8, dtype=torch.long), [Rng(0, 5), Rng(0, 6)]
    flip = random_flips(rngs, (2,) * 8, most=0.3)
    seen = []
    for k in range(6):
        for row, rng in enumerate(rngs):
            u = rng.uniform("flip", 0, k, (1 + 12800,))
            p = 0.01 * int(u[0] * 31)  # 0, 0.01, ..., 0.30
            assert torch.equal(flip(k, labels)[row].flatten() == 1, u[1:] < p)
            seen.append(p)
    assert len(set(seen)) > 6 and max(seen) > 0.25
    assert not torch.equal(flip(3, labels), random_flips(rngs, (2,) * 8, units=(0, 9))(3, labels)), "frames draw anew"
    assert torch.equal(flip(3, labels)[1:], random_flips(rngs[1:], (2,) * 8)(3, labels[1:])), "rows are alone"
    assert torch.equal(flip(2, 1 - labels), 1 - flip(2, labels)), "a flip turns a set bit off"


def test_flips_reach_every_other_class_and_spare_rows_of_none():
    labels = torch.full((1, 1, 30, 30, 3), 1)
    flip = random_flips([Rng(4)], (2, 3, 5), most=1.0)
    rate = 0.01 * int(Rng(4).uniform("flip", 0, 0, (1,)) * 101)
    found = flip(0, labels)
    for part, classes in enumerate((2, 3, 5)):
        counts = torch.bincount(found[..., part].flatten(), minlength=classes) / 900
        assert abs(counts[1] - (1 - rate)) < 0.07
        others = [counts[c] for c in range(classes) if c != 1]
        assert all(abs(c - rate / (classes - 1)) < 0.07 for c in others)
    assert not torch.equal(flip(1, labels), labels)
    still = random_flips([Rng(4), Rng(4)], (2, 3, 5), most=(0.0, 0.5), units=(0, 1))(
        1, labels.expand(2, -1, -1, -1, -1)
    )
    assert torch.equal(still[:1], labels) and not torch.equal(still[1:], labels)


def test_rows_and_rngs_must_match():
    with pytest.raises(UsageError, match=r"^2 rows of labels need one Rng each, not 1$"):
        random_flips([Rng(0)], (2,))(0, torch.zeros(2, 1, 1, 1, 1, dtype=torch.long))
