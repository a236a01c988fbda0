"""`vidar eval compare` prints a line per figure, and refuses in one line."""

import json

import pytest


@pytest.fixture
def reports(tmp_path):
    from vidar.eval.paired import figures

    for name, shift in (("a", 0.0), ("b", 1.0)):
        values = {"PSNR": [20.0 + shift + n for n in range(8)]}
        entries = figures({"suite": "world", "starts": list(range(8))}, values, {"PSNR": "higher"}).entries()
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps({"versions": {"vidar": "0"}, **entries}))
    return tmp_path


def test_figures_are_printed(run, reports):
    words = ("eval", "compare", reports / "a", reports / "b", "--out", reports / "out")
    code, printed, _ = run(*words)
    assert code == 0 and "b against a, 8 starts of suite world" in printed
    assert "PSNR  +1 (+1 to +1)" in printed and "better" in printed and "compare.html" in printed
    code, printed, _ = run(*words, "--json", "--seed", 3)
    made = json.loads(printed)
    assert code == 0 and made == json.loads((reports / "out" / "compare.json").read_text()) and made["seed"] == 3


def test_wrong_usage_is_one_line(run, reports):
    out = reports / "x"
    for words, code, message in (
        ([reports / "a"], 2, "two reports or more"),
        ([reports / "a", reports / "absent"], 1, "absent: no such report"),
        ([reports / "a", reports / "b", "--seed", -1], 2, "--seed"),
    ):
        found, printed, err = run("eval", "compare", *words, "--out", out)
        assert (found, printed) == (code, "") and message in err and err.count("\n") == 1, err
    assert run("eval", "compare", reports / "a", reports / "b")[0] == 2 and not out.exists()
