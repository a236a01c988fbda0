"""`--no-memory` is refused in one line for a world that has no memory, by every command that takes it."""

import pytest

from vidar.eval.provenance import option_words
from vidar.eval.suites import SUITES


@pytest.mark.parametrize(
    "words",
    [
        "play MODEL",
        "generate MODEL --frames 2 --out OUT.mp4",
        "synth MODEL --jobs JOBS --out OUT",
        "eval MODEL --suite world --out OUT",
        "eval MODEL --suite ruler --out OUT",
        "eval MODEL --suite quick --out OUT",
        "eval MODEL --suite endless --out OUT",
    ],
)
def test_a_world_without_a_memory_refuses_in_one_line(run, model, tmp_path, words):
    pytest.importorskip("vizdoom")
    (tmp_path / "jobs.jsonl").write_text('{"id": "a", "frames": 2}\n')
    places = {"MODEL": str(model), "OUT": str(tmp_path / "out"), "JOBS": str(tmp_path / "jobs.jsonl")}
    for name, place in places.items():
        words = words.replace(name, place)
    code, out, err = run(*words.split(), "--no-memory")
    assert code == 2 and not out
    assert err == "vidar: model 'shapes' has no memory; leave --no-memory out\n"
    assert not list(tmp_path.glob("out*"))


def test_a_suite_that_does_not_dream_has_no_such_option(run, model, tmp_path):
    code, _, err = run("eval", model, "--suite", "outcome", "--out", tmp_path / "out", "--no-memory")
    assert code == 2 and "suite 'outcome' has no '--no-memory'" in err and err.count("\n") == 1
    assert {name for name, suite in SUITES.items() if "no-memory" in suite.options} == {*SUITES} - {"outcome"}


def test_a_command_names_a_flag_without_a_value():
    assert option_words("no-memory", True) == ["--no-memory"] and option_words("seed", 3) == ["--seed", "3"]
