"""How the package is called, resumed and collected, with a stand-in for it in a real virtual environment.

The real package is called by test_vbench_official, which needs 7 GB.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from vidar.data.video import write_video
from vidar.eval.vbench_sample import SampleRequest, sample
from vidar.eval.vbench_score import WEIGHTS, ScoreRequest, score
from vidar.eval.vbench_total import I2V, QUALITY, SEMANTIC
from vidar.types import UsageError

STAND_IN = """
import json, os
from pathlib import Path

class VBench:
    def __init__(self, device, info, out):
        self.device, self.info, self.out = device, info, out

    def build_full_dimension_list(self):
        return ["scene", "human_action"]

    def evaluate(self, videos, name, dimension_list, local, **options):
        (dimension,) = dimension_list
        print("working on", dimension)
        if os.path.exists(os.path.join(os.environ["VBENCH_CACHE_DIR"], "fail-" + dimension)):
            raise RuntimeError("no network")
        seen = os.listdir(videos)
        told = {"class": type(self).__name__, "seen": seen, "options": options, "info": self.info, "local": local}
        told["cwd"] = sorted(os.listdir("."))
        told["read"] = {key: open(value).read() for key, value in options.items() if str(value).endswith(".yaml")}
        with open(os.path.join(self.out, "told.json"), "w") as file:
            json.dump(told, file)
        results = {dimension: [len(seen) / 100, [{"video_path": one, "video_results": 1} for one in seen]]}
        with open(os.path.join(self.out, name + "_eval_results.json"), "w") as file:
            json.dump(results, file)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A virtual environment with the stand-ins `vbench`, `vbench2_beta_long`, `vbench2_beta_i2v` and `torch`."""
    folder = tmp_path_factory.mktemp("home")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (place,) = (folder / "env" / "lib").glob("*/site-packages")
    (place / "vbench").mkdir()
    (place / "vbench" / "__init__.py").write_text(STAND_IN)
    (place / "vbench" / "VBench_full_info.json").write_text("[]")
    (place / "vbench2_beta_long.py").write_text("import vbench\nclass VBenchLong(vbench.VBench): pass\n")
    (place / "vbench2_beta_i2v.py").write_text("import vbench\nclass VBenchI2V(vbench.VBench): pass\n")
    (place / "torch.py").write_text("device = str\n")
    (folder / "env" / "vidar.json").write_text("{}")
    return folder


@pytest.fixture
def made(tmp_path):
    """made(mode, **fields): a folder of videos for two prompts."""

    def make(mode, names=("a cat-{}", "a dog-{}"), dimensions=("scene", "human_action"), **fields):
        theirs, out = tmp_path / "theirs", tmp_path / "out"
        theirs.mkdir(exist_ok=True)
        for name in names:
            for number in range(5):
                clip = np.full((4, 32, 32, 3), 40 * number, np.uint8)
                write_video(theirs / f"{name.format(number)}.mp4", clip, 8, matrix=6)
        prompts = [{"prompt_en": name[:-3], "dimension": [*dimensions], "image_name": "x.png"} for name in names]
        (tmp_path / "info.json").write_text(json.dumps(prompts))
        info = {} if mode == "custom" else {"info": str(tmp_path / "info.json")}
        sample(SampleRequest(folder=str(theirs), mode=mode, out=str(out), **info, **fields))
        return out

    return make


def told(out, mode, dimension):
    return json.loads((out / "scores" / mode / dimension / "told.json").read_text())


def test_a_dimension_fails_and_the_others_are_kept(home, made, tmp_path):
    out, weights, said = made("standard"), tmp_path / "weights", []
    weights.mkdir()
    (weights / "fail-scene").touch()
    ask = {"out": str(out), "home": str(home), "weights": str(weights)}
    found = score(ScoreRequest(**ask), said.append)
    file = out / "scores" / "standard_eval_results.json"
    assert found["scores"] == {"human_action": 0.1} and found["results"] == str(file)
    assert [*json.loads(file.read_text())] == ["human_action"]
    problem = found["failed"]["scene"]
    assert "the package failed with code 1: RuntimeError: no network; put caption_model/tag2text_swin" in problem
    assert str(out / "scores" / "standard" / "scene" / "log.txt") in problem and "\n" not in problem
    assert "working on scene" in (out / "scores" / "standard" / "scene" / "log.txt").read_text()
    seen = told(out, "standard", "human_action")
    assert seen["seen"] == sorted(seen["seen"]) and len(seen["seen"]) == 10 and seen["class"] == "VBench"
    (weights / "fail-scene").unlink()
    said.clear()
    assert set(score(ScoreRequest(**ask, dimensions=("scene",)), said.append)["scores"]) == {"scene", "human_action"}
    assert len(said) == 1 and said[0].startswith("scene: running")  # the other one was kept
    write_video(out / "videos" / "a cat-0.mp4", np.zeros((4, 32, 32, 3), np.uint8), 8, matrix=6)
    assert sample(SampleRequest(folder=str(tmp_path / "theirs"), out=str(out), info=str(tmp_path / "info.json")))
    said.clear()
    score(ScoreRequest(**ask), said.append)
    assert said == []  # the copied video is the same again


def test_other_videos_are_scored_again(home, made, tmp_path):
    out, said = made("standard", dimensions=("scene",)), []
    ask = ScoreRequest(out=str(out), home=str(home), weights=str(tmp_path / "weights"))
    score(ask)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["clips"][0]["sha256"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(manifest))
    score(ask, said.append)
    assert len(said) == 1


def test_own_prompts_are_told(home, made, tmp_path):
    out = made("custom")
    ask = {"out": str(out), "home": str(home), "weights": str(tmp_path / "w"), "dimensions": ("human_action",)}
    assert score(ScoreRequest(**ask))["scores"] == {"human_action": 0.1}
    options = told(out, "custom", "human_action")["options"]
    assert options["mode"] == "custom_input" and options["prompt_list"]["a cat-3.mp4"] == "a cat"
    with pytest.raises(UsageError, match="mode 'custom' with these videos has no 'scene'"):
        score(ScoreRequest(**{**ask, "dimensions": ("scene",)}))
    assert score(ScoreRequest(**ask, long=True))["results"].endswith("long_custom_eval_results.json")
    assert told(out, "long_custom", "human_action")["options"]["mode"] == "long_custom_input"


def test_long_videos_are_linked_and_get_the_files_that_the_wheel_lacks(home, made, tmp_path):
    out = made("long")
    score(ScoreRequest(out=str(out), home=str(home), weights=str(tmp_path / "w")))
    seen = told(out, "long", "scene")
    assert seen["class"] == "VBenchLong" and len(seen["seen"]) == 10
    assert all((out / "scores" / "long" / "scene" / "videos" / name).is_symlink() for name in seen["seen"])
    assert json.loads(seen["read"]["clip_length_config"]) == {"scene": 2, "human_action": 10}
    assert seen["options"]["mode"] == "long_vbench_standard" and seen["options"]["w_clip2clip"] == 0
    assert {"slow_fast_eval_config", "sb_mapping_file_path", "bg_mapping_file_path"} <= set(seen["read"])


def test_image_to_video_finds_its_pictures(home, made, tmp_path):
    out = made("i2v", dimensions=("camera_motion", "imaging_quality"))
    ask = {"out": str(out), "home": str(home), "weights": str(tmp_path / "w"), "info": str(tmp_path / "info.json")}
    with pytest.raises(UsageError, match="give the info file of VBench-I2V"):
        score(ScoreRequest(**{**ask, "info": None}))
    with pytest.raises(UsageError, match="give the folder of the pictures"):
        score(ScoreRequest(**ask))
    found = score(ScoreRequest(**ask, images=str(tmp_path), resolution="16-9"))
    assert set(found["scores"]) == {"imaging_quality", "camera_motion"}
    assert "vbench2_beta_i2v" in told(out, "i2v", "camera_motion")["cwd"]
    link = out / "scores" / "i2v" / "camera_motion" / "vbench2_beta_i2v" / "data" / "crop" / "16-9"
    assert link.resolve() == tmp_path.resolve()


def test_wrong_usage(home, made, tmp_path):
    out = made("standard")
    with pytest.raises(UsageError, match="--long is for own prompts"):
        score(ScoreRequest(out=str(out), home=str(home), long=True))
    with pytest.raises(UsageError, match="holds no manifest"):
        score(ScoreRequest(out=str(tmp_path), home=str(home)))
    (out / "videos" / "a cat-0.mp4").unlink()
    with pytest.raises(UsageError, match=r"1 of 10 videos are missing, the first is videos/a cat-0.mp4"):
        score(ScoreRequest(out=str(out), home=str(home)))
    found = score(ScoreRequest(out=str(out), home=str(home), weights=str(tmp_path / "w"), partial=True))
    assert found["scores"]["scene"] == 0.09


def test_long_names_without_underscores(home, made):
    out = made("custom", names=("a_cat-{}",))
    with pytest.raises(UsageError, match=r"a_cat-0.mp4: VBench-Long cuts names at _"):
        score(ScoreRequest(out=str(out), home=str(home), long=True))


def test_every_network_of_a_dimension_is_known():
    without = {"temporal_flickering", "i2v_background", "camera_motion"}  # none, and two from other places
    assert set(WEIGHTS) == {*QUALITY, *SEMANTIC, *I2V} - without
