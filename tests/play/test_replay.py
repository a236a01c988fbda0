"""`write_replay`: the played frames, bit for bit, as a video with its side file; anything else is one line."""

import hashlib
import json
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vidar.model.setting
from vidar.data.video import decode_video, encode_video, read_video
from vidar.model.load import load, save
from vidar.play.engine import PlayEngine, Start
from vidar.play.recording import keep, read
from vidar.play.replay import write_replay
from vidar.types import VidarError


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    made = tmp_path_factory.mktemp("models") / "small"
    save(world, made, dtype=torch.float32)
    return made


@pytest.fixture(scope="module")
def played(folder, tmp_path_factory, first_frames):
    """A file of nine frames, and the frames as they were shown."""
    engine = PlayEngine(load(folder), 2)
    slot = engine.sit(Start(first_frames, None, 11))
    rng, shown = np.random.default_rng(0), []
    for _ in range(9):
        slot.press(rng.integers(0, 2, 5).astype(np.float32))
        slot.asked = time.monotonic()
        engine.round()
        shown.append(slot.shown.frame.copy())
    file = tmp_path_factory.mktemp("played") / "small-11.dream"
    keep(slot, file)
    return file, np.stack(shown)


def test_a_replay_is_a_video_of_the_shown_frames(folder, played, tmp_path):
    file, shown = played
    threads, ticks = torch.get_num_threads(), []
    made = write_replay(file, tmp_path / "x.mp4", str(folder), progress=lambda done, total: ticks.append((done, total)))
    assert made["frames_sha256"] == hashlib.sha256(shown.tobytes()).hexdigest()
    frames, fps = read_video(tmp_path / "x.mp4")
    assert fps == 17.5 and np.array_equal(frames, decode_video(encode_video(shown, fps=17.5)))
    assert json.loads((tmp_path / "x.json").read_text()) == made
    assert (made["seed"], made["capacity"], made["row"], made["threads"]) == (11, 2, 0, threads)
    assert ticks == [(n, 9) for n in range(1, 10)] and torch.get_num_threads() == threads


def test_a_compiled_dream_is_replayed_compiled(folder, first_frames, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(vidar.model.setting, "AheadOfTime", lambda: lambda module, example: built.append(1) or module)
    engine = PlayEngine(load(folder), 1, compiled=True)
    slot = engine.sit(Start(first_frames, None, 11))
    engine.round()
    keep(slot, tmp_path / "x.dream")
    before, shown = len(built), slot.shown.frame.copy()
    made = write_replay(tmp_path / "x.dream", tmp_path / "x.mp4", str(folder))
    assert len(built) == 2 * before > 0 and made["eager"] == 0
    assert made["frames_sha256"] == hashlib.sha256(shown.tobytes()).hexdigest()


def test_refusals_are_one_line_and_leave_no_file(folder, played, tmp_path):
    file, _ = played
    with safe_open(file, "pt") as stored:
        told = json.loads(stored.metadata()["vidar"])
        sha256 = told.pop("sha256")
        names = stored.keys()
        tensors = {name: stored.get_tensor(name) for name in names}

    def changed(name, parts=(), **words):
        save_file({**tensors, **dict(parts)}, tmp_path / name, metadata={"vidar": json.dumps({**told, **words})})
        return tmp_path / name

    assert read(changed("older")).told == read(file).told  # as earlier versions wrote them
    for name, parts, words in (
        ("w", {}, {"seed": 12}),
        ("t", {"actions": 1 - tensors["actions"]}, {}),
        ("x", {}, {"a": 1}),
    ):
        with pytest.raises(VidarError, match=f"{name}: .* it was changed after it was written"):
            read(changed(name, parts, sha256=sha256, **words))
    none = {"actions": torch.zeros(0, 5), "steps": torch.zeros(0, dtype=torch.int16)}
    bad = [
        (file, None, "was played in world 'doom' with other weights than 'doom' has here"),
        (changed("path", world="../../etc"), None, "which is no shipped world"),
        (changed("none", none), str(folder), "none: no frame was played"),
        (changed("many", threads=10**9), str(folder), "many: the number of threads is out of range"),
        (changed("words", threads="1"), str(folder), "words: the number of threads is out of range"),
        (changed("rows", {"context_actions": torch.zeros(2, 5)}), str(folder), "4 frames of context but 2 rows"),
        (changed("wide", {"context_actions": torch.zeros(4, 6)}), str(folder), "wide: context_actions: actions have"),
        (changed("small", {"context": torch.zeros(4, 8, 8, 3, dtype=torch.uint8)}), str(folder), "is 8x8, this model"),
        (tmp_path / "nowhere", str(folder), "nowhere: cannot be read"),
    ]
    for source, model, words in bad:
        with pytest.raises(VidarError, match=words) as refused:
            write_replay(source, tmp_path / "x.mp4", model)
        assert "\n" not in str(refused.value)
    with pytest.raises(VidarError, match=r"x\.gif: a replay is written as \.mp4"):
        write_replay(file, tmp_path / "x.gif", str(folder))
    assert not list(tmp_path.glob("x.*"))
