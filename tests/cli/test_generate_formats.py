"""`vidar generate`: length in seconds, size, and the formats; the frames are the same in all of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vidar.model.files as files
from vidar.commands.world import read_size
from vidar.conditioning.label import LabelEmbedConfig
from vidar.config import from_dict
from vidar.configs.nfd import world_nfd
from vidar.data.video import read_video
from vidar.model.load import load, save
from vidar.types import UsageError


@pytest.fixture
def given(monkeypatch):
    """The frames that reach the writer, by the name of the file."""
    made = {}

    def noting(write):
        def call(path, frames, fps):
            made[path.name] = np.stack(list(frames))
            write(path, made[path.name], fps)

        return call

    for name in ("write_video", "write_gif"):
        monkeypatch.setattr(files, name, noting(getattr(files, name)))
    return made


@pytest.fixture(scope="session")
def flow(tmp_path_factory):
    """The folder of a tiny untrained model that makes clips of 8 frames from a class by rectified flow."""
    config = world_nfd(preset="tiny").method.world
    reader = LabelEmbedConfig(num_labels=3, width=config.net.backbone.width)
    torch.manual_seed(0)
    model = config.replace(frames=8, actions=None, net=config.net.replace(conditioner=reader)).build()
    with torch.no_grad():
        for parameter in [*model.net.parameters(), *model.tokenizer.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp("flow") / "clips"
    save(model, folder, dtype=torch.float32)
    return folder


def test_formats_hold_the_same_frames(run, model, clip, keys, given, tmp_path):
    words = ["generate", model, "--context", clip, "--actions", keys, "--steps", 1, "--seed", 2]
    for name in ("x.mp4", "y.webm", "z.gif"):
        assert run(*words, "--out", tmp_path / name)[0] == 0
        side = json.loads((tmp_path / name).with_suffix(".json").read_text())
        assert side["video"] == str(tmp_path / name) and side["frames"] == 4
    assert np.array_equal(given["x.mp4"], given["y.webm"]) and np.array_equal(given["x.mp4"], given["z.gif"])
    frames, fps = read_video(tmp_path / "y.webm")
    assert frames.shape == given["x.mp4"].shape and fps == 10
    with Image.open(tmp_path / "z.gif") as picture:
        assert (picture.n_frames, picture.size) == (4, (32, 32))


def test_length_in_seconds_and_another_size(run, model, clip, given, tmp_path):
    words = ["generate", model, "--context", clip, "--steps", 1]
    assert run(*words, "--frames", 6, "--out", tmp_path / "a.mp4")[0] == 0
    assert run(*words, "--seconds", 0.6, "--size", "64x48", "--out", tmp_path / "b.mp4")[0] == 0
    frames, _ = read_video(tmp_path / "b.mp4")
    assert frames.shape == (6, 48, 64, 3)
    resized = [Image.fromarray(frame).resize((64, 48), Image.Resampling.LANCZOS) for frame in given["a.mp4"]]
    assert np.array_equal(given["b.mp4"], np.stack([np.asarray(frame) for frame in resized]))
    request = from_dict(json.loads((tmp_path / "b.json").read_text())["arguments"])
    assert (request.seconds, request.size, request.frames) == (0.6, (64, 48), None)
    assert run(*words, "--frames", 1, "--size", "33x21", "--out", tmp_path / "c.gif")[0] == 0  # odd sizes too


def test_clips_take_steps_where_the_model_does(run, flow, given, tmp_path):
    words = ["generate", flow, "--label", 1, "--seed", 5]
    assert run(*words, "--steps", 1, "--seconds", 0.25, "--out", tmp_path / "a.mp4")[0] == 0
    assert run(*words, "--frames", 5, "--out", tmp_path / "b.mp4")[0] == 0
    assert np.array_equal(given["a.mp4"], load(flow).generate(label=1, seed=5, num_frames=5, steps=1).frames[0])
    assert not np.array_equal(given["a.mp4"], given["b.mp4"])
    assert run(*words, "--frames", 1, "--size", "41x30", "--out", tmp_path / "c.png")[0] == 0
    assert Image.open(tmp_path / "c.png").size == (41, 30)


CASES = [
    ("--frames 2 --seconds 1", "give --frames or --seconds, not both"),
    ("--seconds 1e9", "--seconds 1e+09: longer than 86400 (one day)"),
    ("--seconds 0.01", "less than one frame at 10 frames per second"),
    ("--seconds 0", "seconds: Input should be greater than 0"),
    ("--seconds -3", "seconds: Input should be greater than 0"),
    ("--seconds nan", "seconds: Input should be"),
    ("--seconds inf", "seconds: Input should be a finite number"),
    ("--frames 2 --size 320", "--size 320: give width and height in pixels, such as 320x256"),
    ("--frames 2 --size 320,256", "--size 320,256: give width and height"),
    ("--frames 2 --size 0x256", "size 0x256: width and height must be from 1 to 8192"),
    ("--frames 2 --size 20000x256", "size 20000x256: width and height must be from 1 to 8192"),
    ("--frames 2 --size 31x32", "size 31x32: width and height of .mp4 must be even"),
    ("--frames 2 --size 31x32 --out x.webm", "size 31x32: width and height of .webm must be even"),
    ("--frames 2 --out x.jpg", "x.jpg: a video is written as .mp4, .webm or .gif"),
    ("--frames 2 --out x.png", "x.png: a video is written as .mp4, .webm or .gif"),
]


@pytest.mark.parametrize("words, named", CASES, ids=[case[0] for case in CASES])
def test_refused_before_a_model_is_built(run, model, clip, tmp_path, monkeypatch, words, named):
    monkeypatch.setattr(files, "load", lambda *_: pytest.fail("a model was built"))
    monkeypatch.chdir(tmp_path)
    words = words if "--out" in words else f"{words} --out x.mp4"
    code, out, error = run("generate", model, "--context", clip, *words.split())
    assert code == 2 and named in error and error.count("\n") == 1 and not out and not list(tmp_path.iterdir())


def test_a_size_in_words():
    assert read_size("320x256") == (320, 256) and read_size(" 7X9 ") == (7, 9)
    for text in ("", "x", "320x", "3.5x2", "-3x4", "320x256x3", "9999999x1"):
        with pytest.raises(UsageError, match="give width and height in pixels"):
            read_size(text)
