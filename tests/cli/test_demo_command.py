"""`vidar demo` is `vidar.eval.demo.demo`."""

import json


def test_demo_runs_the_library(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("vidar.eval.demo.demo", lambda out: asked.append(out) or {"episodes": 16})
    code, out, _ = run("demo", "--out", tmp_path / "d", "--json")
    assert code == 0 and asked == [tmp_path / "d"] and json.loads(out) == {"episodes": 16}
