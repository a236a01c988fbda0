"""`vidar eval` is `vidar.eval.suites.run_suite` with the options that were given, and no others."""

import json

MADE = {"world": "w", "gains": {"copy_last": {"mean": 1.5}}, "action_score": None, "psnr": {"model": [1.0] * 16}}


def test_eval_runs_the_suite(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("vidar.eval.suites.run_suite", lambda *arguments: asked.append(arguments) or MADE)
    out = tmp_path / "d"
    code, printed, _ = run("eval", "m", "--suite", "world", "--out", out, "--json")
    assert code == 0 and asked.pop() == ("world", "m", out, {}, None) and json.loads(printed) == MADE
    more = ["--data", tmp_path, "--split", "s", "--episodes", 3, "--frames", 16, "--seed", 1, "--steps", 2]
    more += ["--idm", tmp_path, "--device", "cpu", "--record", "world_doom"]
    code, printed, _ = run("eval", "m", "--suite", "x", "--out", out, *more)
    assert code == 0 and "copy_last" in printed and "psnr" not in printed and str(out / "report.html") in printed
    options = {"data": tmp_path, "split": "s", "episodes": 3, "frames": 16, "seed": 1, "steps": 2, "idm": tmp_path}
    assert asked.pop() == ("x", "m", out, {**options, "device": "cpu"}, "world_doom")


def test_wrong_usage_is_one_line(run, shards, model, tmp_path):
    out = tmp_path / "d"
    for words, code, message in (
        (["--suite", "wolrd"], 2, "--suite has no 'wolrd'; did you mean world?"),
        (["--suite", "endless", "--data", shards], 2, "suite 'endless' has no '--data'"),
        (["--suite", "world", "--frames", 3], 2, "--frames"),
        (["--suite", "world", "--record", "wrld_doom"], 2, "no recipe 'wrld_doom'; did you mean world_doom"),
        (["--suite", "world", "--device", "nowhere"], 2, "device 'nowhere' cannot be used"),
        (["--suite", "world", "--data", tmp_path / "absent"], 1, "no such data folder"),
        (["--suite", "world", "--data", shards, "--split", "x"], 1, "has no split 'x'; available: train"),
        (["--suite", "world", "--data", shards, "--split", "train"], 1, "0 of 3 episodes with the"),
    ):
        found, printed, err = run("eval", model, "--out", out, *words)
        assert (found, printed) == (code, "") and message in err and err.count("\n") == 1, err
    assert run("eval", model, "--out", out)[0] == 2 and run("eval", "absent", "--suite", "world", "--out", out)[0] == 2
    assert not out.exists()
