"""`vidar eval blind` writes a page, and `blind-score` prints shares; wrong usage is one line."""

import json

import pytest

from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig


@pytest.fixture(scope="module")
def long_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blind") / "shards"
    record(ShapesConfig(), None, folder, episodes=3, frames=32, split="heldout")
    return folder


def test_from_page_to_share(run, model, long_shards, tmp_path):
    out = tmp_path / "blind"
    words = ["--data", long_shards, "--clips", 3, "--seconds", "0.5, 0.8,1", "--seed", 2, "--out", out]
    code, printed, _ = run("eval", "blind", model, *words)
    assert code == 0 and "which one is the real game" in printed and str(out / "blind.html") in printed
    key = json.loads((out / "key.json").read_text())
    assert sorted(trial["frames"] for trial in key["trials"].values()) == [5, 8, 10]
    answers = [{"trial": trial, "choice": "left", "seconds": 1.0} for trial in list(key["trials"])[:2]]
    hits = sum(key["trials"][answer["trial"]]["answer"] == "left" for answer in answers)
    file = tmp_path / "anna.json"
    told = {"vidar": "blind answers", "version": 1, "page": key["page"], "rater": "Anna", "answers": answers}
    file.write_text(json.dumps(told))
    code, printed, _ = run("eval", "blind-score", out, file)
    assert code == 0 and f"{hits} of 2" in printed and "1 unanswered" in printed and "rater Anna" in printed
    code, printed, _ = run("eval", "blind-score", out / "key.json", file, "--json")
    assert code == 0 and json.loads(printed)["all"]["hits"] == hits


def test_wrong_usage_is_one_line(run, model, long_shards, tmp_path):
    out = tmp_path / "x"
    given = ["--data", long_shards, "--out", out]
    for words, code, message in (
        (["blind", model, *given, "--seconds", "a"], 2, "numbers with commas between are needed"),
        (["blind", model, *given, "--clips", 0], 2, "--clips"),
        (["blind", model, *given, "--clips", 9, "--seconds", "1"], 2, "has 3 episodes"),
        (["blind", "absent", *given], 2, "absent"),
        (["blind-score", tmp_path, tmp_path / "a.json"], 1, "key.json: no such file"),
    ):
        found, printed, err = run("eval", *words)
        assert (found, printed) == (code, "") and message in err and err.count("\n") == 1, err
    assert run("eval", "blind", model)[0] == 2 and run("eval", "blind-score", out)[0] == 2 and not out.exists()
