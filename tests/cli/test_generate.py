"""`vidar generate`: what is written, and that everything is refused before a model is built."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vidar.model.files as clips
from vidar.config import from_dict
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video, write_video
from vidar.model.load import load
from vidar.model.trained import note_steps


def test_clip_is_the_world_stream(run, model, clip, keys, tmp_path, monkeypatch):
    given = []  # the frames as they reach the writer: the encoder itself may differ in a bit

    def write(path, frames, fps):
        given.extend(np.array(frame) for frame in frames)
        write_video(path, given, fps)

    monkeypatch.setattr("vidar.model.files.write_video", write)
    out = tmp_path / "x.mp4"
    code, printed, _ = run(
        "generate", model, "--context", clip, "--actions", keys, "--seed", 7, "--steps", 2, "--out", out, "--json"
    )
    assert code == 0
    frames, fps = read_video(out)
    assert len(frames) == 4 and fps == 10  # context is never written
    world = load(model)
    again = world.generate(str(clip), np.load(keys), seed=7, steps=2).frames[0]
    assert np.array_equal(np.stack(given), again)
    other = world.generate(str(clip), np.load(keys), seed=8, steps=2).frames[0]
    assert not np.array_equal(again, other)  # the seed counts
    side = json.loads((tmp_path / "x.json").read_text())
    assert side == json.loads(printed)
    assert (side["frames"], side["fps"], side["context_frames"]) == (4, 10.0, 5)
    assert from_dict(side["world"]) == world.config
    assert from_dict(side["arguments"]).seed == 7 and set(side["versions"]) == {"vidar", "torch", "python"}
    assert 0 < side["latency_ms"]["median"] <= side["latency_ms"]["p95"]


def test_renewed_clip(run, model, clip, keys, tmp_path, monkeypatch):
    made = {}

    def write(path, frames, fps):
        made[path.stem] = np.stack(list(frames))
        write_video(path, made[path.stem], fps)

    monkeypatch.setattr("vidar.model.files.write_video", write)
    words = ["generate", model, "--context", clip, "--actions", keys, "--steps", 1]
    assert run(*words, "--out", tmp_path / "plain.mp4")[0] == 0
    assert run(*words, "--renew", 2, "--out", tmp_path / "renewed.mp4")[0] == 0
    assert np.array_equal(made["plain"][:2], made["renewed"][:2])
    again = load(model).stream(str(clip), np.load(keys), 0, steps=1, renew=2)
    assert np.array_equal(made["renewed"], np.stack(list(again)))
    assert run(*words, "--recache", "--out", tmp_path / "switched.mp4")[0] == 0
    again = load(model).stream(str(clip), np.load(keys), 0, steps=1, recache=True)
    assert np.array_equal(made["switched"], np.stack(list(again)))
    assert not np.array_equal(made["switched"], made["plain"])
    code, _, error = run(*words, "--recache", "--renew", 2, "--out", tmp_path / "both.mp4")
    assert code == 2 and "exclude each other" in error and not (tmp_path / "both.mp4").exists()


def test_fewer_frames_than_actions(run, model, clip, keys, tmp_path):
    for frames in (1, 3):
        out = tmp_path / f"{frames}.mp4"
        words = ["--context", clip, "--actions", keys, "--frames", frames, "--steps", 1]
        assert run("generate", model, *words, "--out", out)[0] == 0
        assert len(read_video(out)[0]) == frames


def test_picture_and_own_start(run, model, tmp_path):
    picture = tmp_path / "start.png"
    Image.fromarray(ShapesConfig().build().episode(1).frames[0]).save(picture)
    words = ["--frames", 2, "--steps", 1]
    assert run("generate", model, "--context", picture, *words, "--out", tmp_path / "a.mp4")[0] == 0
    assert json.loads((tmp_path / "a.json").read_text())["context_frames"] == 1
    write_video(model / "start.mp4", ShapesConfig().build().episode(1).frames[:1], 10)  # a clip of one frame
    try:
        assert run("generate", model, *words, "--out", tmp_path / "b.mp4")[0] == 0
    finally:
        (model / "start.mp4").unlink()


@pytest.fixture
def bad(tmp_path, clip):
    """Files that cannot serve."""
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    write_video(tmp_path / "small.mp4", np.zeros((3, 16, 16, 3), np.uint8), 10)
    np.save(tmp_path / "wide.npy", np.zeros((4, 2), np.float32))
    np.save(tmp_path / "illegal.npy", np.full((4, 1), 9.0))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    (tmp_path / "side.json").mkdir()
    return tmp_path


CASES = [
    ("--frames 2 --context none.mp4", 1, "none.mp4: no such video file"),
    ("--frames 2 --context cut.mp4", 1, "cut.mp4"),
    ("--frames 2 --context empty.mp4", 1, "empty.mp4: is empty"),
    ("--frames 2 --context cut.png", 1, "cut.png"),
    ("--frames 2 --context none.png", 1, "none.png: no such picture"),
    ("--frames 2 --context small.mp4", 1, "small.mp4: is 16x16, this model is 32x32"),
    ("--context start.mp4 --actions wide.npy", 1, "wide.npy: actions have shape 4x2, expected T x 1 (move)"),
    ("--context start.mp4 --actions illegal.npy", 1, "illegal.npy: action 'move' row 0 is 9"),
    ("--context start.mp4 --actions pickled.npy", 1, "pickled.npy"),
    ("--context start.mp4 --actions text.npy", 1, "text.npy"),
    ("--context start.mp4 --actions none.npy", 1, "none.npy: no such file"),
    ("--context start.mp4 --actions keys.npy --frames 5", 1, "4 actions are too few for 5 frames"),
    ("--context start.mp4 --frames 0", 2, "frames"),
    ("--context start.mp4 --frames 2 --device nowhere", 2, "'nowhere'"),
    ("--frames 2", 2, "--context"),
    ("--context start.mp4 --frames 2 --out folder.mp4", 1, "folder.mp4: is not a regular file"),
    ("--context start.mp4 --frames 2 --out full.mp4", 1, "full.mp4: is not a regular file"),
    ("--context start.mp4 --frames 2 --out /dev/full", 1, "/dev/full: is not a regular file"),
    ("--context start.mp4 --frames 2 --out nowhere/x.mp4", 1, "nowhere does not exist"),
    ("--context start.mp4 --frames 2 --out side.mp4", 1, "side.json: is not a regular file"),
    ("--context start.mp4 --frames 2 --out x.avi", 2, "x.avi"),
]


@pytest.mark.parametrize("words, code, named", CASES, ids=[case[0] for case in CASES])
def test_refused_before_a_model_is_built(run, model, clip, keys, bad, monkeypatch, words, code, named):
    monkeypatch.setattr(clips, "load", lambda *_: pytest.fail("a model was built"))
    (bad / "start.mp4").write_bytes(clip.read_bytes())
    monkeypatch.chdir(bad)
    before = sorted(bad.iterdir())
    words = words if "--out" in words else f"{words} --out x.mp4"
    got, out, err = run("generate", model, *words.split())
    assert got == code and named in err and err.count("\n") == 1 and not out
    assert sorted(bad.iterdir()) == before


def test_models_that_are_none(run, tmp_path):
    code, _, err = run("generate", "doomm", "--frames", 1, "--out", tmp_path / "x.mp4")
    assert code == 2 and "doomm: no such world" in err
    code, _, err = run("generate", tmp_path, "--frames", 1, "--out", tmp_path / "x.mp4")
    assert code == 1 and "model_index.json" in err
    assert not list(tmp_path.iterdir())


def test_failure_midway_leaves_nothing(run, model, clip, tmp_path, monkeypatch):
    def stream(*_, **__):
        yield np.zeros((32, 32, 3), np.uint8)
        raise clips.VidarError("the end of the world")

    monkeypatch.setattr(clips.VideoModel, "stream", stream)
    words = ["generate", model, "--context", clip, "--frames", 3, "--out", tmp_path / "x.mp4"]
    assert run(*words)[::2] == (1, "vidar: the end of the world\n")
    assert not list(tmp_path.iterdir())


def test_a_model_of_few_steps_warns_in_one_line(run, model, clip, tmp_path, monkeypatch):
    """In `generate`, `synth` and `play`; a model without the number of its steps (`model`) never does."""
    few = shutil.copytree(model, tmp_path / "few")
    shutil.copy(clip, few / "start.mp4")
    note_steps(few, 20)
    (tmp_path / "jobs.jsonl").write_text('{"id": "a", "frames": 2}')
    line = f"vidar: {few} was trained for only 20 steps: expect noise or blur; to train on, repeat its `vidar train`"
    commands = [("generate", few, "--frames", 1, "--out", tmp_path / "x.mp4")]
    commands += [("synth", few, "--jobs", tmp_path / "jobs.jsonl", "--out", tmp_path / "v", "--dry-run")]
    for words in commands:
        code, _, err = run(*words)
        assert code == 0 and [one.startswith(line) for one in err.splitlines()] == [True]
    monkeypatch.setattr("vidar.commands.play._serve", lambda *_: None)
    code, _, err = run("play", few, "--no-compile")
    assert code == 0 and err.startswith(line)
    code, _, err = run("generate", model, "--context", clip, "--frames", 1, "--out", tmp_path / "y.mp4")
    assert (code, err) == (0, "")
