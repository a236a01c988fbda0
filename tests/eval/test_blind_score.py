"""Interval and p-value against their definitions, the shares by hand, and the files that are refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest

from vidar.eval.blind_score import WIDE, binomial_p, run, share_of, wilson
from vidar.types import UsageError, VidarError

TRIALS = {
    "t1": {"answer": "left", "seconds": 1.6, "player": "idle"},
    "t2": {"answer": "right", "seconds": 1.6, "player": "recorded play"},
    "t3": {"answer": "left", "seconds": 3.2, "player": "recorded play"},
    "t4": {"answer": "right", "seconds": 3.2, "player": "idle"},
}


@pytest.mark.parametrize(("hits", "count"), [(58, 100), (7, 10), (1, 3), (650, 1300)])
def test_wilson_ends_are_those_of_its_definition(hits, count):
    for end in wilson(hits, count):
        assert math.isclose(abs(hits / count - end), WIDE * math.sqrt(end * (1 - end) / count), rel_tol=1e-9)


def test_wilson_at_the_ends():
    low, high = wilson(0, 10)
    assert low == 0.0 and math.isclose(high, WIDE**2 / (10 + WIDE**2))
    assert math.isclose(wilson(10, 10)[0], 10 / (10 + WIDE**2)) and wilson(10, 10)[1] == 1.0
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I: 81 of 263 and 15 of 148
    assert [round(end, 4) for end in (*wilson(81, 263), *wilson(15, 148))] == [0.2553, 0.3662, 0.0624, 0.1605]


def test_binomial_is_the_sum_of_all_that_is_as_rare():
    for count in (1, 2, 7, 12):
        for hits in range(count + 1):
            ways = [math.comb(count, k) for k in range(count + 1)]
            p = Fraction(sum(w for w in ways if w <= ways[hits]), 2**count)
            assert binomial_p(hits, count) == float(p)
    assert 0 < binomial_p(0, 5000) < 1e-300 or binomial_p(0, 5000) == 0.0  # whole numbers do not overflow
    assert binomial_p(2500, 5000) == 1.0


@pytest.fixture
def key(tmp_path):
    whole = {"version": 1, "page": "abc", "kind": "real", "models": {"dream": "doom"}, "trials": TRIALS}
    (tmp_path / "key.json").write_text(json.dumps(whole))
    return tmp_path


def said(key, name, choices, rater=None, **more):
    answers = [{"trial": trial, "choice": side, "seconds": 1.5, "plays": 1} for trial, side in choices.items()]
    file = key / f"{name}.json"
    record = {"vidar": "blind answers", "version": 1, "page": "abc", "rater": rater or name, "answers": answers}
    file.write_text(json.dumps({**record, **more}))
    return file


def test_shares_by_hand(key):
    anna = said(key, "anna", {"t1": "left", "t2": "right", "t3": "right", "t4": "right"})
    ben = said(key, "ben", {"t4": "left", "t1": "left"})
    made = run(key, [anna, ben])
    assert run(key / "key.json", [anna, ben]) == made
    low, high = wilson(4, 6)
    expected = {"hits": 4, "count": 6, "unanswered": 2, "share": 4 / 6, "low": low, "high": high, "p": binomial_p(4, 6)}
    assert made["all"] == expected and made["raters"] == 2 and made["median_seconds"] == 1.5
    parts = {name: (p["hits"], p["count"], p["unanswered"]) for name, p in made["by_seconds"].items()}
    assert parts == {"1.6": (3, 3, 1), "3.2": (1, 3, 1)}
    parts = {name: (p["hits"], p["count"], p["unanswered"]) for name, p in made["by_rater"].items()}
    assert parts == {"anna": (3, 4, 0), "ben": (1, 2, 2)}
    parts = {name: (p["hits"], p["count"], p["unanswered"]) for name, p in made["by_player"].items()}
    assert parts == {"idle": (3, 4, 0), "recorded play": (1, 2, 2)}


def test_without_answers_there_is_no_share(key):
    assert run(key, [said(key, "anna", {})])["all"] == {
        "hits": 0, "count": 0, "unanswered": 4, "share": None, "low": None, "high": None, "p": None,
    }  # fmt: skip
    assert share_of(3, 4).unanswered == 0


def test_two_models_are_scored_by_how_often_the_first_is_preferred(key):
    told = json.loads((key / "key.json").read_text())
    (key / "key.json").write_text(json.dumps({**told, "kind": "models", "models": {"A": "student", "B": "doom"}}))
    made = run(key, [said(key, "anna", {"t1": "left", "t2": "left"})])
    assert made["share_of"] == "answers that prefer student" and made["all"]["hits"] == 1


def test_what_cannot_be_counted_is_named(key):
    good = said(key, "anna", {"t1": "left"})
    (key / "text.json").write_text("{")
    (key / "list.json").write_text("[]")
    other = key / "other"
    other.mkdir()
    (other / "key.json").write_text("{}")
    for where, files, error, message in (
        (key, [], UsageError, "no answers"),
        (key / "absent", [good], VidarError, "absent: no such file"),
        (other, [good], VidarError, "is not the key of a blind test"),
        (key, [key / "text.json"], VidarError, "text.json: is not JSON"),
        (key, [key / "list.json"], VidarError, "list.json: is no JSON object"),
        (key, [key / "key.json"], VidarError, "key.json: holds no answers"),
        (key, [said(key, "b", {}, page="xyz")], VidarError, "b.json: its answers are of another page"),
        (key, [said(key, "c", {"t9": "left"})], VidarError, "c.json: answer 1 is of no trial"),
        (
            key,
            [said(key, "d", {"t1": "up"})],
            VidarError,
            "d.json: answer 1 is of no trial of this page, or of no side",
        ),
        (key, [said(key, "e", {}, rater=" ")], VidarError, "e.json: does not name its rater"),
        (key, [good, good], UsageError, "anna.json: rater 'anna' is also that of .*anna.json"),
        (
            key,
            [good, said(key, "f", {}, rater=" Anna")],
            UsageError,
            "f.json: rater 'Anna' is also that of .*anna.json",
        ),
        (
            key,
            [said(key, "g", {}, answers=[{"trial": "t1", "choice": "left"}] * 2)],
            VidarError,
            "t1 is answered twice",
        ),
        (key, [said(key, "h", {}, answers=[3])], VidarError, "h.json: answer 1 is of no trial"),
    ):
        with pytest.raises(error, match=message) as caught:
            run(where, files)
        assert "\n" not in str(caught.value)
