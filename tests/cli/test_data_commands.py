"""`vidar record` and `vidar data`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vidar.actions import Action, ActionSpec
from vidar.config import to_yaml
from vidar.data.episode import Episode
from vidar.data.reader import read_episode
from vidar.data.shards import ShardWriter
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
    (tmp_path / "in" / "b.csv").write_text("jump\n0\n")
    code, _, err = run("data", "convert", tmp_path / "in", "--out", tmp_path / "e", *words)
    assert code == 1 and "b.mp4: has 1 frame" in err and not (tmp_path / "e").exists()


def test_convert_says_what_it_passes_over_keeps_and_holds_out(run, tmp_path):
    (tmp_path / "in").mkdir()
    frames = ShapesConfig().build().episode(0).frames
    for n in range(4):
        write_video(tmp_path / "in" / f"{n}.MP4", frames[n : n + 4], 20)
        (tmp_path / "in" / f"{n}.txt").write_text(f"scene {n}")
    (tmp_path / "in" / "._0.MP4").write_bytes(b"x")
    words = ["data", "convert", tmp_path / "in", "--out", tmp_path / "d", "--fps", 20, "--every", 2, "--heldout", 0.25]
    code, out, err = run(*words, "--json")
    assert code == 0 and json.loads(out)["heldout"] == 1 and json.loads(out)["episodes"] == 4
    assert err.count("\n") == 1 and "passed over" in err and "._0.MP4" in err
    code, out, err = run(*words, "--resume", "--json")
    assert code == 0 and json.loads(out)["kept"] == 4 and "4 of 4 recordings are there already" in err
    for more, code, named in ((["--rows", "every"], 2, "--rows every"), (["--target-fps", 10], 2, "give one of them")):
        done, _, err = run(*words, *more)
        assert done == code and named in err and err.count("\n") == 1


def test_clip(run, tmp_path):
    """What `clip` writes is a context with its actions, and `convert` makes the same episode of it again."""
    spec = ActionSpec(actions=(Action(name="turn", kind="continuous", low=1, high=3, noop=2), Action(name="jump")))
    rng = np.random.default_rng(0)
    actions = np.stack([rng.uniform(1, 3, 20), rng.integers(0, 2, 20)], axis=1).astype(np.float32)
    frames = np.repeat(np.arange(20, dtype=np.uint8) * 12, 32 * 48 * 3).reshape(20, 32, 48, 3)
    with ShardWriter(tmp_path / "d", "train", spec) as writer:
        writer.write(Episode(frames, actions, 10, spec, "one", "test", caption="grey"))
    words = ["data", "clip", tmp_path / "d", "--episode", "one", "--start", 4, "--frames", 8, "--json"]
    (tmp_path / "x").mkdir()
    code, out, _ = run(*words, "--out", tmp_path / "x" / "x.mp4")
    assert code == 0 and json.loads(out)["frames"] == 8 and json.loads(out)["caption"] == "grey"
    shown, fps = read_video(tmp_path / "x" / "x.mp4")
    assert fps == 10 and np.abs(shown.astype(int) - frames[4:12]).max() <= 2
    np.testing.assert_array_equal(np.load(tmp_path / "x" / "x.npy"), actions[5:12])
    (tmp_path / "spec.yaml").write_text(to_yaml(spec))
    convert = ["--out", tmp_path / "again", "--spec", tmp_path / "spec.yaml", "--fps", 10]
    assert run("data", "convert", tmp_path / "x", *convert)[0] == 0
    again = read_episode(tmp_path / "again", "train", 0)
    np.testing.assert_array_equal(again.actions[1:], actions[5:12])
    for more, name, code, message in (
        (["--start", 13], "y.mp4", 1, "episode one has frames 0 .. 19, not 13 .. 20"),
        (["--start", 20], "y.mp4", 1, "not 20 .. 27"),
        (["--episode", 7], "y.mp4", 1, "no episode 7; it has 1"),
        ([], "y.gif", 2, "a clip is written as .mp4"),
        ([], "x/x.mp4", 1, "x.npy: exists already"),
        ([], "none/x.mp4", 1, "does not exist"),
    ):
        done, _, err = run(*words, *more, "--out", tmp_path / name)
        assert done == code and message in err and err.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again", "d", "spec.yaml", "x"]


def test_clip_of_data_without_actions_is_a_context(run, tmp_path, model, clip):
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in" / "a.mp4")
    assert run("data", "convert", tmp_path / "in", "--out", tmp_path / "d", "--fps", 10)[0] == 0
    assert run("data", "clip", tmp_path / "d", "--out", tmp_path / "x.mp4")[0] == 0
    assert not (tmp_path / "x.npy").exists() and not (tmp_path / "x.csv").exists()
    words = ["--context", tmp_path / "x.mp4", "--frames", 2, "--out", tmp_path / "y.mp4"]
    assert run("generate", model, *words)[0] == 0
