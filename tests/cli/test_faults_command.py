"""`vidar eval faults` is `vidar.eval.fault_table.run` with the options that were given."""

import json

MADE = {
    "headline": {"metric": "likeness", "seen": 11, "of": 12, "blind": ["loop"], "not_below_real": []},
    "metrics": {"likeness": {"seen": 11}, "psnr": {"seen": 9}},
    "broken_claims": [["likeness", "loop"]],
}


def test_the_options_arrive(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("vidar.eval.fault_table.run", lambda out, **given: asked.append((out, given)) or MADE)
    usual = {"model": "doom", "starts": None, "seconds": None, "seed": 0, "workers": None, "docs": None}
    code, printed, _ = run("eval", "faults", "--out", tmp_path)
    assert code == 0 and asked.pop() == (tmp_path, usual)
    assert "likeness: loop" in printed and str(tmp_path / "faults.html") in printed
    more = {"starts": 3, "seconds": 4.5, "seed": 1, "workers": 2, "docs": tmp_path / "table.md"}
    words = [word for name, value in more.items() for word in (f"--{name}", value)]
    code, printed, _ = run("eval", "faults", "--out", tmp_path, *words, "--json")
    assert code == 0 and asked.pop() == (tmp_path, {**usual, **more}) and json.loads(printed) == MADE


def test_wrong_usage_is_one_line(run, tmp_path):
    out = tmp_path / "out"
    for words, message in ((["--starts", 1], "--starts"), (["--model", "dooom"], "dooom: no such world")):
        code, printed, err = run("eval", "faults", "--out", out, *words)
        assert (code, printed) == (2, "") and message in err and err.count("\n") == 1, err
    assert run("eval", "faults")[0] == 2 and not out.exists()
