"""The official package as oracle, in the environment that `vidar eval vbench setup` made (7 GB)."""

import json
import subprocess

import numpy as np
import pytest

from vidar.data.video import BT601, BT709, read_video, write_video
from vidar.eval.vbench_native import temporal_flickering
from vidar.eval.vbench_sample import SampleRequest, sample
from vidar.eval.vbench_score import ScoreRequest, score, score_native
from vidar.eval.vbench_setup import DONE, home, info_file, interpreter
from vidar.eval.vbench_total import read_scores, total
from vidar.types import UsageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (home() / "env" / DONE).is_file(), reason="first run `vidar eval vbench setup` (7 GB)"),
]
ORACLE = """
import json, sys
import numpy as np
from vbench.temporal_flickering import cal_score, get_frames
found = {}
for file in sys.argv[2:]:
    found[file] = cal_score(file)
    np.save(file + ".npy", np.stack(get_frames(file)))
json.dump(found, open(sys.argv[1], "w"))
"""


def official(folder, files):
    """The score and the frames (BGR) of the package's own function for each file."""
    command = [str(interpreter(home())), "-c", ORACLE, str(folder / "found.json"), *map(str, files)]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((folder / "found.json").read_text())
    return {file: (found[str(file)], np.load(f"{file}.npy")) for file in files}


def test_temporal_flickering_is_the_official_function(tmp_path):
    """Equal to 1e-12 where float32 holds its means exactly (grey, 64 x 64, 9 frames); else to its rounding."""
    draws = np.random.default_rng(0)
    grey = np.repeat(draws.integers(0, 256, (9, 64, 64, 1), dtype=np.uint8), 3, axis=3)
    smooth = np.kron(draws.integers(0, 256, (11, 9, 12, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    write_video(tmp_path / "grey.mp4", grey, 8, crf=0, matrix=BT601)
    write_video(tmp_path / "colour.mp4", smooth, 8, matrix=BT601)
    found = official(tmp_path, [tmp_path / "grey.mp4", tmp_path / "colour.mp4"])
    score_grey, frames = found[tmp_path / "grey.mp4"]
    assert (frames == frames[..., :1]).all() and abs(temporal_flickering(frames) - score_grey) <= 1e-12
    score_colour, frames = found[tmp_path / "colour.mp4"]
    assert abs(temporal_flickering(frames) - score_colour) <= 3 * 2**-24  # roundings to float32 of a mean of 255


@pytest.mark.parametrize(("matrix", "same"), [(BT601, True), (BT709, False)])
def test_the_package_sees_our_colours(tmp_path, matrix, same):
    """OpenCV takes every file for BT.601, whatever its tag says."""
    colours = np.random.default_rng(2).integers(30, 220, (8, 1, 1, 3))  # one per frame
    write_video(tmp_path / "a.mp4", np.kron(colours, np.ones((1, 64, 64, 1))).astype(np.uint8), 8, matrix=matrix)
    theirs = official(tmp_path, [tmp_path / "a.mp4"])[tmp_path / "a.mp4"][1][..., ::-1]
    distance = np.abs(read_video(tmp_path / "a.mp4")[0].astype(int) - theirs).mean()
    assert distance < 2 if same else distance > 4


@pytest.fixture
def videos(tmp_path):
    """A folder with both official prompts of a dimension that needs no network, made by another program."""
    prompts = json.loads(info_file(home()).read_text())
    wanted = [one["prompt_en"] for one in prompts if "temporal_flickering" in one["dimension"]][:2]
    (tmp_path / "theirs").mkdir()
    draws = np.random.default_rng(1)
    for prompt in wanted:
        for number in range(25):
            still = np.repeat(draws.integers(0, 200, (1, 8, 8, 3)), 8, axis=0)
            clip = np.kron(still, np.ones((1, 8, 8, 1))).astype(np.uint8)
            clip[1::2] += draws.integers(0, 40, dtype=np.uint8)
            write_video(tmp_path / "theirs" / f"{prompt}-{number}.mp4", clip, 8, matrix=BT601)
    request = SampleRequest(
        folder=str(tmp_path / "theirs"), out=str(tmp_path / "out"), info=str(info_file(home())),
        dimensions=("temporal_flickering",), first=2,
    )  # fmt: skip
    assert sample(request)["missing"] == []
    return tmp_path / "out"


def test_scores_come_from_the_package_and_are_kept(videos, tmp_path):
    said = []
    ask = ScoreRequest(out=str(videos), static="blockmatch", weights=str(tmp_path / "weights"))
    made = score(ask, said.append)
    assert not made["failed"] and made["static_filter"] == "blockmatch" and len(said) == 1
    details = json.loads((videos / "scores" / "standard_eval_results.json").read_text())["temporal_flickering"]
    assert len(details[1]) == 10 and details[0] == pytest.approx(np.mean([one["video_results"] for one in details[1]]))
    assert made["scores"]["temporal_flickering"] == details[0]
    native = score_native(videos)["scores"]["temporal_flickering"]
    assert native == pytest.approx(details[0], abs=0.03)  # of all 50 videos
    assert score(ask, said.append)["scores"] == made["scores"] and len(said) == 1  # nothing runs again
    whole = total(read_scores([videos / "scores" / "standard_eval_results.json"]))
    assert len(whole["missing"]) == 15
    assert whole["total"] == pytest.approx(0.8 * (details[0] - 0.6293) / (1 - 0.6293) / 6.5, abs=1e-12)


def test_missing_networks_and_videos_are_named(videos, tmp_path):
    said = []
    made = score(ScoreRequest(out=str(videos), weights=str(tmp_path / "weights")), said.append)
    problem = made["failed"]["temporal_flickering"]
    assert f"put raft_model/models/raft-things.pth into {tmp_path / 'weights'} (VBENCH_CACHE_DIR)" in problem
    assert "\n" not in problem and made["scores"] == {}
    next((videos / "videos").iterdir()).unlink()
    with pytest.raises(UsageError, match=r"1 of 50 videos are missing, the first is .*, or score the rest with --part"):
        score(ScoreRequest(out=str(videos)))
    with pytest.raises(UsageError, match="has no 'scene'"):
        score(ScoreRequest(out=str(videos), dimensions=("scene",)))
