"""`vidar eval MODEL` is `run_suite` with the options that were given; the commands that need no model."""

import json

import numpy as np

from vidar.data.synthetic import ShapesConfig
from vidar.data.video import write_video

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


def test_videos_and_features_are_compared(run, shards, clip, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(5):
        write_video(folder / f"{seed}.mp4", ShapesConfig(frames=16).build().episode(20 + seed).frames, 10)
    out = tmp_path / "d"
    words = ["eval", "videos", shards, folder, "--out", out, "--features", "pixels", "--frames", 8]
    code, printed, err = run(*words)
    assert code == 0 and "pixels-8x8x8, N 3 and 10, 8 frames, stride 1, 32x32" in printed and "refused" not in printed
    assert "more clips than features" in printed and "+-" in printed and "split 'train'" in err
    code, printed, _ = run(*words, "--features", "random3d", "--clips", 3, "--json")
    made = json.loads(printed)
    assert code == 0 and [row["extractor"] for row in made["distances"]] == ["pixels-8x8x8", "random3d-0"]
    assert made["generated"]["clips"] == 3 and "--clips 3" in made["command"]
    for more, code, message in (
        (["--protocol", "fvd2048_16f"], 2, "--protocol sets --frames"),
        (["--clips", "some"], 2, "--clips is 'some', but must be full or a number"),
        (["--features", "i3d"], 2, "i3d=FILE"),
        (["--size", "8"], 2, "--size 8: give width and height"),
        (["--real-split", "x"], 1, "has no split 'x'; available: train"),
        (["--frames", 9], 1, "no video has the 9 frames of a clip, the longest has 8"),
    ):
        found, _, err = run("eval", "videos", shards, folder, "--out", tmp_path / "e", "--frames", 8, *more)
        assert found == code and message in err, err
    assert not (tmp_path / "e").exists()
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(9, 4)))
    code, printed, _ = run("eval", "features", tmp_path / "a.npy", tmp_path / "a.npy", "--json")
    assert code == 0 and json.loads(printed)["frechet"]["distance"] < 1e-9
    code, _, err = run("eval", "features", tmp_path / "a.npy", clip)
    assert code == 1 and "cannot be read as an array" in err and err.count("\n") == 1


def test_a_tokenizer_is_judged(run, model, shards, tmp_path):
    out = tmp_path / "d"
    code, printed, _ = run("eval", "reconstruction", model, shards, "--out", out)
    assert (
        code == 0 and "dB [" in printed and "PSNR, 3 train episodes" in printed and str(out / "report.html") in printed
    )
    code, printed, _ = run("eval", "reconstruction", model / "tokenizer", shards, "--out", out, "--json")
    assert code == 0 and json.loads(printed)["data"]["videos"] == 3
    code, _, err = run("eval", "reconstruction", model / "transformer", shards, "--out", out)
    assert code == 2 and "not a tokenizer" in err
    code, _, err = run("eval", "reconstruction", model, shards, "--out", out, "--lpips", f"{tmp_path / 'no.pth'}")
    assert code == 1 and "no.pth: no such file of weights" in err
