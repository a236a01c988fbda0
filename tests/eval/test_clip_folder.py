"""The manifest of a folder of clips: every wrong file is named with what is wrong."""

import json

import av
import numpy as np
import pytest

from vidar.data.video import BT601, write_video
from vidar.eval.clip_folder import ClipFolder, measure, sha256
from vidar.types import UsageError


def clip(file, frames=6, fps=10, size=(32, 48), seed=0, matrix=BT601):
    picture = np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    write_video(file, picture, fps, matrix=matrix)
    return {"sha256": sha256(file), "bytes": file.stat().st_size, **measure(file)}


@pytest.fixture
def clips(tmp_path):
    """A folder of four clips, as made."""
    folder = ClipFolder(tmp_path, "test")
    folder.settle({"frames": 6})
    todo = folder.enter([{"file": f"{name}.mp4", "seed": n, "prompt": name} for n, name in enumerate("abcd")])
    for entry in todo:
        folder.note(entry, clip(tmp_path / entry["file"], seed=entry["seed"]))
    folder.save()
    return folder


def test_measures(tmp_path):
    made = clip(tmp_path / "a.mp4")
    assert {name: made[name] for name in ("frames", "height", "width", "fps", "range", "matrix")} == {
        "frames": 6, "height": 32, "width": 48, "fps": 10.0, "range": "limited", "matrix": "bt601"
    }  # fmt: skip
    write_video(tmp_path / "b.mp4", np.zeros((2, 32, 32, 3), np.uint8), 10)
    assert measure(tmp_path / "b.mp4")["matrix"] == "bt709"


def test_what_is_there_is_kept(clips, tmp_path):
    assert [*clips.problems()] == []
    again = ClipFolder(tmp_path, "test")
    wanted = [{"file": f"{name}.mp4", "seed": "abcde".index(name), "prompt": name} for name in "ace"]
    assert [one["file"] for one in again.enter(wanted)] == ["e.mp4"]
    assert [one["file"] for one in again.clips] == ["a.mp4", "c.mp4", "e.mp4", "b.mp4", "d.mp4"]  # the others stay
    assert "sha256" in again.clips[1] and "sha256" not in again.clips[2]
    with pytest.raises(UsageError, match=r"b.mp4: was made with seed 1, not 7"):
        again.enter([{"file": "b.mp4", "seed": 7, "prompt": "b"}])
    with pytest.raises(UsageError, match="made with frames 6, not 8; leave that as it was"):
        again.settle({"frames": 8})


def test_a_changed_clip_of_ours_is_made_again_and_a_foreign_one_is_refused(clips, tmp_path):
    clip(tmp_path / "a.mp4", seed=9)
    again = ClipFolder(tmp_path, "test")
    assert [one["file"] for one in again.enter(again.clips[:])] == ["a.mp4"]
    with av.open(str(tmp_path / "b.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        video.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        video.mux(stream.encode(None))
    before = (tmp_path / "b.mp4").read_bytes()
    with pytest.raises(UsageError, match=r"b.mp4: exists, and vidar did not write it"):
        ClipFolder(tmp_path, "test").enter(clips.clips)
    assert (tmp_path / "b.mp4").read_bytes() == before


def test_every_problem_is_named(clips, tmp_path):
    (tmp_path / "a.mp4").unlink()
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: len(whole) // 2])
    clip(tmp_path / "c.mp4", frames=5, fps=12, size=(32, 32), matrix=1)
    found = [(one.file, one.kind) for one in clips.problems()]
    assert found == [
        ("a.mp4", "missing"),
        ("b.mp4", "undecodable"),
        *(("c.mp4", kind) for kind in ("frames", "width", "fps", "matrix", "changed")),
    ]
    assert {one.text for one in clips.problems()} >= {"frames is 5, expected 6", "matrix is bt709, expected bt601"}
    assert {(one.file, one.kind) for one in clips.problems({"frames": 7})} >= {("c.mp4", "frames"), ("d.mp4", "frames")}


def test_full_range_is_named(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        for _ in range(3):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8))))
        video.mux(stream.encode(None))
    folder = ClipFolder(tmp_path, "test")
    folder.clips = [{"file": "a.mp4"}]
    assert [one.kind for one in folder.problems()] == ["range"] and measure(tmp_path / "a.mp4")["range"] == "full"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda told: told.pop("clips"), "damaged"),
        (lambda told: told.update(kind="other"), "is no manifest of test"),
        (lambda told: told.update(schema=9), "is no manifest of test in schema 1"),
        (lambda told: told["clips"][0].update(file="../x.mp4"), "is no manifest"),
        (lambda told: told["clips"][0].update(file="/x.mp4"), "is no manifest"),
    ],
)
def test_other_manifests_are_refused(clips, tmp_path, change, problem):
    told = json.loads((tmp_path / "manifest.json").read_text())
    change(told)
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=problem):
        ClipFolder(tmp_path, "test")


def test_a_folder_without_a_manifest(tmp_path):
    with pytest.raises(UsageError, match=r"holds no manifest.json of test"):
        ClipFolder(tmp_path, "test", must_exist=True)
