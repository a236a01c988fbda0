"""Reports against the first: every number by hand, and what the verdict needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidar.eval.bootstrap import bootstrap
from vidar.eval.comparison import LEVEL, compare
from vidar.eval.paired import Figures, PairedReport, figures
from vidar.eval.sign_flip import holm, sign_flip
from vidar.types import UsageError

BETTER = {"PSNR": "higher", "error": "lower"}
PAIRING = {"suite": "world", "starts": list("abcdefghijkl")}


def report(name, values, better=BETTER, pairing=PAIRING):
    return PairedReport(Path(name) / "report.json", {}, figures(pairing, values, better))


def numbers(seed, shift=0.0):
    return np.round(np.random.Generator(np.random.Philox(seed)).normal(size=12) + shift, 6)


def test_every_number_by_hand():
    a = {"PSNR": numbers(0), "error": numbers(1)}
    b = {"PSNR": a["PSNR"] + np.where(np.arange(12) < 11, 0.5, 0.0), "error": a["error"] + numbers(2, 0.2)}
    found = compare([report("runs/a", a), report("runs/b", b)], seed=3)
    assert found.names == ("a", "b") and found.left_out == {}
    first, second = found.rows["b"]
    for row, name in ((first, "PSNR"), (second, "error")):
        difference = b[name] - a[name]
        low, high = bootstrap(difference, 3)
        assert (row.figure, row.better) == (name, BETTER[name])
        assert (row.first, row.mean) == (a[name].mean(), b[name].mean())
        assert (row.difference, row.low, row.high) == (difference.mean(), float(low), float(high))
        assert row.p == sign_flip(difference).value
    assert [first.p_holm, second.p_holm] == holm([first.p, second.p])
    assert (first.wins, first.losses, first.ties) == (11, 0, 1) and first.p == 2 / 2**11
    assert second.wins == (b["error"] < a["error"]).sum() and second.losses == (b["error"] > a["error"]).sum()
    assert first.verdict == "better" and second.verdict == "cannot tell"
    assert np.array_equal(found.gains["b"]["error"], a["error"] - b["error"])


@pytest.mark.parametrize(("figure", "shift", "verdict"), [
    ("PSNR", 0.3, "better"), ("PSNR", -0.3, "worse"), ("error", 0.3, "worse"), ("error", -0.3, "better"),
    ("PSNR", 0.0, "cannot tell"),
])  # fmt: skip
def test_the_verdict_follows_the_direction_of_the_figure(figure, shift, verdict):
    a = {"PSNR": numbers(0), "error": numbers(1)}
    b = {**a, figure: a[figure] + shift}
    row = next(row for row in compare([report("a", a), report("b", b)]).rows["b"] if row.figure == figure)
    assert row.verdict == verdict


def test_more_tests_need_more_evidence():
    """A p-value between 0.0125 and 0.05 says "better" alone, and nothing among four figures."""
    difference = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.2, 0.2, -0.4, 0.1])
    assert LEVEL / 4 < sign_flip(difference).value <= LEVEL
    a = {name: numbers(n) for n, name in enumerate("wxyz")}
    b = {name: numbers(n) + (difference if name == "w" else numbers(9)) for n, name in enumerate("wxyz")}
    better = dict.fromkeys("wxyz", "higher")
    alone = compare([report("a", {"w": a["w"]}, better), report("b", {"w": b["w"]}, better)])
    assert alone.rows["b"][0].verdict == "better"
    together = compare([report("a", a, better), report("b", b, better)])
    assert together.rows["b"][0].p == alone.rows["b"][0].p and together.rows["b"][0].verdict == "cannot tell"
    # and so do more reports
    several = compare([report(name, {"w": v["w"]}, better) for name, v in (("a", a), ("b", b), ("c", a), ("d", a))])
    assert several.rows["b"][0].verdict == "cannot tell" and list(several.rows) == ["b", "c", "d"]


def test_a_figure_that_one_report_lacks_is_left_out_by_name():
    a = report("a", {"PSNR": numbers(0), "error": numbers(1)})
    missing = numbers(1)
    missing[2] = np.nan
    b = report("b", {"PSNR": numbers(0), "error": missing})
    found = compare([a, b])
    assert [row.figure for row in found.rows["b"]] == ["PSNR"]
    assert found.left_out == {"error": "b: not measured for 1 of 12 starts"}
    c = PairedReport(
        Path("c/report.json"), {}, Figures(PAIRING, {"PSNR": a.figures.values["PSNR"]}, {"PSNR": "higher"})
    )
    assert compare([a, c]).left_out == {"error": "c: not a figure of this report"}


def test_what_cannot_be_compared_is_refused():
    a = report("a", {"PSNR": numbers(0)})
    for other, message in (
        (report("b", {"x": numbers(0)}, {"x": "higher"}), "share no figure"),
        (report("b", {"PSNR": numbers(0)}, {"PSNR": "lower"}), "disagree on which numbers of 'PSNR' are good"),
        (report("b", {"PSNR": numbers(0)}, pairing={"suite": "endless"}), 'suite is "world" and "endless"'),
    ):
        with pytest.raises(UsageError, match=message):
            compare([a, other])


def test_names_are_different():
    names = [compare([report(p, {"PSNR": numbers(0)}) for p in pair]).names for pair in (
        ("x/a", "x/b"), ("x/a", "y/a"), ("x/a", "x/a"),
    )]  # fmt: skip
    assert names == [("a", "b"), ("x/a", "y/a"), ("a (1)", "a (2)")]
