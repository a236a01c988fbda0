"""`vidar record` and `vidar data`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vidar.actions import Action, ActionSpec
from vidar.config import to_yaml
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video, write_video

SPEC = ActionSpec(actions=(Action(name="jump"),))


def test_record_is_the_library(run, tmp_path):
    words = "--episodes 2 --frames 6 --seed 5 --split test --height 24 --width 40 --json"
    code, out, _ = run("record", "shapes", *words.split(), "--out", tmp_path / "d")
    made = json.loads(out)
    assert code == 0 and (made["episodes"], made["frames"], made["split"]) == (2, 12, "test")
    from vidar.data.reader import read_episode

    again = ShapesConfig(height=24, width=40, frames=6).build().episode(5)
    np.testing.assert_array_equal(read_episode(tmp_path / "d", "test", 0).actions, again.actions)


@pytest.mark.parametrize(
    "words, named",
    [
        ("shapes --episodes 1 --frames 1", "at least 2 frames"),
        ("shapes --episodes 1 --scenario x", "'scenario'"),
        ("shapes --episodes 1 --height 4", "height"),
        ("vizdoom --episodes 1 --scenario my_way_hom", "my_way_home"),
        ("CartPol-v1 --episodes 1", "CartPole-v1"),
        ("CartPole-v1 --episodes 1 --frame-skip 2", "'frame_skip'"),
    ],
)
def test_record_refuses(run, tmp_path, words, named):
    code, _, err = run("record", *words.split(), "--out", tmp_path / "d")
    assert code == 2 and err.count("\n") == 1 and named in err
    assert not (tmp_path / "d").exists()


GAME = """
import gymnasium
import numpy as np
from gymnasium import spaces

class Loud(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    action_space, observation_space = spaces.Discrete(2), spaces.Discrete(1)

    def __init__(self, render_mode=None):
        print("hello from the game")

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        print("step")
        return 0, 1.0, False, False, {}

    def render(self):
        return np.full((100, 150, 3), 80, np.uint8)

gymnasium.register("VidarLoud-v0", Loud)
"""


def test_record_a_game_that_prints(run, tmp_path, monkeypatch):
    """Its output does not mix with the result; the frames have a size that the recipes train on."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "vidar_loud_game.py").write_text(GAME)
    words = ["record", "vidar_loud_game:VidarLoud-v0", "--episodes", "1", "--frames", "3", "--fps", "12", "--json"]
    code, out, err = run(*words, "--out", tmp_path / "d")
    made = json.loads(out)
    assert code == 0 and "hello from the game" in err and err.count("step") == 2
    assert (made["picture"], made["picture_size"], made["frame_size"]) == ("render", [100, 150], [64, 96])
    assert made["frame_rate"] == 12
    code, _, err = run(*words, "--picture", "eye", "--out", tmp_path / "e")
    assert code == 1 and "the observation has no part 'eye'" in err.splitlines()[-1]


def test_validate(run, shards, tmp_path):
    code, out, _ = run("data", "validate", shards, "--json")
    assert code == 0 and json.loads(out) == {"ok": True, "shards": 1, "samples": 3, "frames": 24, "problems": []}
    damaged = shutil.copytree(shards, tmp_path / "damaged")
    tar = next(damaged.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[3000] ^= 255
    tar.write_bytes(data)
    code, out, _ = run("data", "validate", damaged)
    assert code == 1 and "does not match its sha256" in out


def test_inspect(run, shards):
    code, out, _ = run("data", "inspect", shards, "--json")
    report = json.loads(out)
    assert code == 0 and report["frames"] == 24 and sum(report["actions"]["move"].values()) == pytest.approx(1)


def test_preview(run, shards, tmp_path):
    assert run("data", "preview", shards, "--out", tmp_path / "a.png")[0] == 0
    assert Image.open(tmp_path / "a.png").width == 8 * 32
    assert run("data", "preview", shards, "--out", tmp_path / "a.mp4", "--episode", 2)[0] == 0
    assert len(read_video(tmp_path / "a.mp4")[0]) == 8
    code, _, err = run("data", "preview", shards, "--out", tmp_path / "a.gif")
    assert code == 2 and "a.gif" in err


def test_convert(run, tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", ShapesConfig().build().episode(0).frames[:4], 10)
    (tmp_path / "in" / "a.csv").write_text("jump\n0\n1\n1\n0\n")
    (tmp_path / "spec.yaml").write_text(to_yaml(SPEC))
    words = ["--spec", tmp_path / "spec.yaml", "--fps", 10, "--json"]
    code, out, _ = run("data", "convert", tmp_path / "in", "--out", tmp_path / "d", *words)
    assert code == 0 and json.loads(out)["episodes"] == 1
    assert run("data", "validate", tmp_path / "d")[0] == 0
    write_video(tmp_path / "in" / "b.mp4", ShapesConfig().build().episode(0).frames[:1], 10)  # a one-frame episode
    code, _, err = run("data", "convert", tmp_path / "in", "--out", tmp_path / "e", *words)
    assert code == 1 and "b.mp4" in err and not (tmp_path / "e").exists()
