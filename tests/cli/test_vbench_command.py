"""`vidar eval vbench`, `vidar eval export` and `vidar eval import` on real files, with JSON and exit codes."""

import json

import numpy as np
import pytest

from vidar.data.video import write_video


@pytest.fixture
def theirs(tmp_path):
    """A folder with three of five videos of one official prompt, and the file of prompts."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (tmp_path / "info.json").write_text(json.dumps([{"prompt_en": "a cat", "dimension": ["scene"]}]))
    for number in range(3):
        clip = np.full((4, 32, 32, 3), 50 * number, np.uint8)
        clip[1::2] += 51
        write_video(folder / f"a cat-{number}.mp4", clip, 8, crf=0, matrix=6)
    return folder


def test_from_a_folder_to_scores(run, theirs, tmp_path):
    out, info = tmp_path / "out", tmp_path / "info.json"
    words = ["eval", "vbench", "sample", "--folder", theirs, "--info", info, "--out", out]
    code, printed, err = run(*words, "--json")
    made = json.loads(printed)
    assert code == 1 and made["made"] == 3 and made["missing"] == ["a cat-3.mp4", "a cat-4.mp4"]
    assert err == "vidar: 2 of 5 videos are missing: a cat-3.mp4, a cat-4.mp4\n"
    code, printed, err = run("eval", "vbench", "check", out, "--frames", 4, "--fps", 8, "--size", "32x32")
    assert code == 1 and err.count("does not exist") == 2 and "good     3" in printed
    code, _, err = run("eval", "vbench", "score", out, "--native")
    assert code == 2 and "2 of 5 videos are missing, the first is videos/a cat-3.mp4" in err and err.count("\n") == 1
    for number in (3, 4):
        write_video(theirs / f"a cat-{number}.mp4", np.zeros((4, 32, 32, 3), np.uint8), 8, matrix=6)
    assert run(*words)[0] == 0 and run("eval", "vbench", "check", out)[0] == 0
    code, printed, _ = run("eval", "vbench", "score", out, "--native", "--json")
    assert code == 0 and json.loads(printed)["scores"] == {"motion/blockmatch": 0.0}  # scene has no other one
    code, _, err = run("eval", "vbench", "score", out, "--home", tmp_path)
    assert code == 2 and "holds no environment of VBench; make one with `vidar eval vbench setup`" in err


def test_native_scores_of_own_videos(run, theirs, tmp_path):
    out = tmp_path / "out"
    assert run("eval", "vbench", "sample", "--folder", theirs, "--mode", "custom", "--out", out)[0] == 0
    code, printed, _ = run("eval", "vbench", "score", out, "--native", "--json")
    scores = json.loads(printed)["scores"]
    assert code == 0 and scores["temporal_flickering"] == pytest.approx(204 / 255, abs=0.01)
    stored = json.loads((out / "scores" / "native_eval_results.json").read_text())
    assert {name: one[0] for name, one in stored.items()} == scores and len(stored["temporal_flickering"][1]) == 3
    code, printed, err = run("eval", "vbench", "total", out / "scores" / "native_eval_results.json", "--json")
    assert code == 0 and len(json.loads(printed)["missing"]) == 15
    assert "15 dimensions have no score and count as 0" in err and "not part of standard: dynamic_degree/block" in err


def test_totals(run, tmp_path):
    file = tmp_path / "x_eval_results.json"
    file.write_text(json.dumps({"temporal_flickering": [1.0, []], "scene": [0.8222, []]}))
    code, printed, err = run("eval", "vbench", "total", file)
    assert code == 0 and "14 dimensions have no score" in err
    assert float(printed.split()[-1]) == pytest.approx((4 / 6.5 + 1 / 9) / 5, abs=1e-4)
    code, _, err = run("eval", "vbench", "total", file, "--strict")
    assert code == 1 and err.startswith("vidar: 14 of 16 dimensions have no score") and err.count("\n") == 1


def test_wrong_usage_is_one_line(run, tmp_path):
    for words, code, problem in (
        (["--setup", "vbnch"], 2, "there is `vidar eval --setup vbench`"),
        (["vbench", "sample", "--out", tmp_path / "x", "--mode", "fast"], 2, "'standard', 'custom', 'long' or 'i2v'"),
        (["vbench", "sample", "--out", tmp_path / "x", "--home", tmp_path], 2, "no VBench_full_info.json"),
        (["vbench", "check", tmp_path], 2, "holds no manifest.json of vbench"),
        (["vbench", "setup", "--python", tmp_path, "--out", tmp_path / "x"], 2, "does not run; install one"),
        (["export", "doom", "--layout", "x", "--out", tmp_path / "x"], 2, "--layout has no 'x'"),
        (["import", tmp_path, "--layout", "mind"], 2, "holds no clip {index}_{name}/video.mp4"),
    ):
        found, printed, err = run("eval", *words)
        assert (found, printed) == (code, "") and problem in err and err.count("\n") == 1, (words, err)
    assert not (tmp_path / "x").exists()
    assert run("eval", "vbench")[0] == 2 and "sample" in run("eval", "vbench", "--help")[1]
