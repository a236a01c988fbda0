import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vidar.rng import DRAWS, Rng
from vidar.types import UsageError

ROOT = Path(__file__).parents[1]
KINDS = ("raw", "uniform", "normal", "gumbel", "permutation", "draw")


def test_draws_depend_on_their_key_and_on_nothing_else():
    a = Rng(1, 2).normal("start", 3, 4, (5, 6))
    Rng(1, 2).normal("start", 9, 9, (100,))
    assert torch.equal(a, Rng(1, 2).normal("start", 3, 4, (5, 6)))
    others = [Rng(2, 2).normal("start", 3, 4, (5, 6)), Rng(1, 3).normal("start", 3, 4, (5, 6))]
    others += [Rng(1, 2).normal("start", 4, 4, (5, 6)), Rng(1, 2).normal("start", 3, 5, (5, 6))]
    others += [Rng(1, 2).normal(name, 3, 4, (5, 6)) for name in set(DRAWS) - {"start"}]
    assert all((a != other).all() for other in others)


def test_values_are_pinned():
    """A change of these numbers changes every stored seed."""
    assert Rng(0).raw("start", 0, 0, 2).tolist() == [14595802573567684197, 9696784446598711244]


def test_moments():
    """n = 200,000: the mean of a standard normal lies within 5 / sqrt(n) but for 6e-7 of seeds."""
    n = 200_000
    x = Rng(3).normal("start", shape=(n,))
    assert abs(float(x.mean())) < 5 / math.sqrt(n) and abs(float(x.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((x[: n // 2] * x[n // 2 :]).mean())) < 5 / math.sqrt(n / 2)
    u = Rng(3).uniform("token", shape=(n,))
    assert float(u.min()) > 0 and float(u.max()) < 1 and abs(float(u.mean()) - 0.5) < 5 / math.sqrt(12 * n)
    g = Rng(3).gumbel("token", shape=(n,))
    assert abs(float(g.mean()) - 0.5772156649) < 5 * math.pi / math.sqrt(6 * n)


@pytest.mark.parametrize("word", [0, 2**63, 2**64 - 1])
def test_no_word_leads_out_of_the_open_interval(word, monkeypatch):
    monkeypatch.setattr(Rng, "raw", lambda rng, name, unit, step, count: np.full(count, word, np.uint64))
    u, g, x = Rng(0).uniform("token"), Rng(0).gumbel("token"), Rng(0).normal("start", shape=(2,))
    assert 0 < float(u) < 1 and torch.isfinite(g) and torch.isfinite(x).all()
    assert abs(float(u) - word / 2**64) <= 2.0**-53


def test_permutation_is_one():
    assert sorted(Rng(1).permutation("shuffle", 50, 2).tolist()) == list(range(50))


def test_unknown_name_is_refused_with_the_nearest_valid_one():
    with pytest.raises(
        UsageError, match=r"^the table of random draws has no 'strat'; did you mean start or own_start\?$"
    ):
        Rng(0).normal("strat")
    with pytest.raises(UsageError, match="has no 'strat'"):
        Rng(0).renamed(start="strat").normal("start")


def literals():
    """Every string of the product outside vidar/rng.py, and those that stand first in a draw."""
    everywhere, first = set(), set()
    for file in (f for folder in ("vidar", "configs", "data", "eval") for f in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())) if file != ROOT / "vidar/rng.py" else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                everywhere.add(node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in KINDS:
                first |= {part.value for part in node.args[:1] if isinstance(part, ast.Constant)}
    return everywhere, {name for name in first if isinstance(name, str)}


def test_every_name_is_drawn_and_every_name_drawn_is_in_the_table():
    everywhere, first = literals()
    assert first <= set(DRAWS) and len(first) > 30
    assert set(DRAWS) <= everywhere
