"""`vidar demo` is `vidar.eval.demo.demo`."""

import json


def test_demo_runs_the_library(run, monkeypatch, tmp_path):
    asked = []
    made = {
        "world": "w",
        "params": 1,
        "episodes": 20,
        "fps": 10,
        "latency_ms": {"p50": 1.0},
        "gains": {"copy_last": {"mean": 2.0}},
    }
    monkeypatch.setattr("vidar.eval.demo.demo", lambda *arguments, **more: asked.append((*arguments, more)) or made)
    code, out, _ = run("demo", "--out", tmp_path / "d", "--model", "m", "--episodes", 20, "--seed", 7, "--json")
    assert code == 0 and asked == [(tmp_path / "d", "m", 20, 48, 7, {"recipe": None})] and json.loads(out) == made
    code, out, _ = run("demo", "--out", tmp_path / "d", "--record", "world_doom")
    assert (
        code == 0 and "copy_last" in out and asked[1] == (tmp_path / "d", "doom", 32, 48, 0, {"recipe": "world_doom"})
    )
