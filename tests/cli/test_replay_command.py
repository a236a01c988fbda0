"""`vidar replay`, and what `vidar play` refuses: starts that are none, games that are another world's."""

import json
import re
import shutil
import sys
import time

import pytest

from vidar.model.load import load
from vidar.play.engine import PlayEngine, Start
from vidar.play.recording import keep


@pytest.fixture
def played(model, clip, tmp_path):
    engine = PlayEngine(world := load(model), 1)
    slot = engine.sit(Start(world.context_frames(str(clip)).numpy(), None, 4))
    for _ in range(3):
        slot.asked = time.monotonic()
        engine.round()
    keep(slot, tmp_path / "a.dream")
    return tmp_path / "a.dream"


@pytest.fixture
def playable(model, clip, tmp_path):
    folder = shutil.copytree(model, tmp_path / "world")
    shutil.copy(clip, folder / "start.mp4")
    return folder


def test_replay_writes_and_refuses_in_one_line(run, played, model, tmp_path):
    code, out, _ = run("replay", played, "--model", model, "--out", tmp_path / "x.mp4", "--json")
    assert code == 0 and json.loads(out)["frames"] == 3 and (tmp_path / "x.mp4").is_file()
    code, out, _ = run("replay", played, "--model", model, "--out", tmp_path / "y.mp4")
    assert code == 0 and re.search(r"^frames_sha256 +[0-9a-f]{64}$", out, re.M)
    code, out, err = run("replay", played, "--out", tmp_path / "z.mp4")
    assert (code, out) == (2, "") and re.fullmatch(r"vidar: .*no shipped world; give --model FOLDER\n", err)
    code, _, err = run("replay", tmp_path / "x.mp4", "--model", model, "--out", tmp_path / "z.mp4")
    assert code == 1 and re.fullmatch(r"vidar: .*x\.mp4: cannot be read as a played dream: .*\n", err)
    assert not (tmp_path / "z.mp4").exists()


def test_play_refuses_bad_starts_and_foreign_games(run, playable, tmp_path, monkeypatch):
    code, _, err = run("play", playable, "--port", 0, "--starts", tmp_path / "nowhere")
    assert code == 2 and "nowhere: no such folder; --starts needs a folder of videos" in err
    code, out, err = run("play", playable, "--port", 0, "--beside")
    assert (code, out) == (1, "") and re.fullmatch(
        r"vidar: world .* has the actions .*; --beside needs a world trained on this game\n", err
    )
    code, _, err = run("play", playable, "--port", 0, "--beside", "--scenario", "my_way_hom")
    assert code == 2 and "did you mean my_way_home?" in err
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    code, _, err = run("play", playable, "--port", 0, "--beside")
    assert code == 1 and re.fullmatch(r"vidar: .* needs the package vizdoom: pip install '.*\[vizdoom\]'\n", err)
