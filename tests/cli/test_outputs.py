"""Outputs never replace an input, nor a file that vidar did not write; a command may be repeated."""

import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image

import vidar.model.files as clips
from vidar.data.outputs import check_apart, check_outputs
from vidar.model.load import load, save
from vidar.types import UsageError, VidarError


def recording(file):
    """A video of another program."""
    with av.open(str(file), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        out.mux(stream.encode(None))


def test_a_command_may_be_repeated(run, model, clip, tmp_path):
    words = ("generate", model, "--context", clip, "--frames", 2, "--steps", 1, "--out", tmp_path / "x.mp4")
    assert run(*words)[0] == run(*words)[0] == 0
    (tmp_path / "x.json").unlink()  # the video itself says who wrote it
    assert run(*words)[0] == 0


@pytest.mark.parametrize("name", ["context.mp4", "link.mp4", "holiday.mp4", "text.mp4", "notes.mp4", "world/start.mp4"])
def test_inputs_and_files_of_others_stay(run, model, clip, tmp_path, monkeypatch, name):
    monkeypatch.setattr(clips, "load", lambda *_: pytest.fail("a model was built"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "world")
    for copy in ("context.mp4", "world/start.mp4"):
        shutil.copy(clip, copy)
    (tmp_path / "link.mp4").symlink_to("context.mp4")
    recording("holiday.mp4")
    (tmp_path / "text.mp4").write_text("mine")
    (tmp_path / "notes.json").write_text(json.dumps({"video": "mine"}))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    code, _, err = run("generate", "world", "--context", "context.mp4", "--frames", 2, "--out", name)
    assert code == 2 and err.count("\n") == 1
    reason = "is read by this command" if name in ("context.mp4", "link.mp4", "world/start.mp4") else "did not write it"
    assert reason in err and (name in err or "notes.json" in err)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_the_config_of_a_world_is_no_side_file(run, model, clip, tmp_path):
    shutil.copytree(model, tmp_path / "world")
    before = (tmp_path / "world" / "world.json").read_text()
    out = tmp_path / "world" / "world.mp4"
    code, _, err = run("generate", tmp_path / "world", "--context", clip, "--frames", 2, "--out", out)
    assert code == 2 and "world.json: exists, and vidar did not write it" in err
    assert (tmp_path / "world" / "world.json").read_text() == before


def test_pictures(run, tmp_path):
    out = tmp_path / "x.png"
    assert run("order", "ring", "--out", out)[0] == run("order", "ring", "--out", out)[0] == 0
    Image.new("RGB", (8, 8)).save(out)
    code, _, err = run("order", "ring", "--out", out)
    assert code == 2 and "x.png: exists, and vidar did not write it" in err
    out.write_bytes(b"")
    assert run("order", "ring", "--out", out)[0] == 0


def test_a_report_of_others_stays(run, tmp_path):
    (tmp_path / "report.html").write_text("<h1>mine</h1>")
    code, _, err = run("eval", "doom", "--suite", "world", "--out", tmp_path)
    assert code == 2 and "report.html: exists, and vidar did not write it" in err
    (tmp_path / "report.html").write_text("<h1>vidar eval</h1>")
    check_outputs([tmp_path / "report.html"])


def test_an_output_folder_lies_outside_of_what_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    for out in (tmp_path / "in", tmp_path / "in" / "data", tmp_path / "other" / ".." / "in"):
        with pytest.raises(UsageError, match="give a folder outside of it"):
            check_apart(out, tmp_path / "in")
    check_apart(tmp_path / "in2", tmp_path / "in")


def test_a_full_disk_leaves_the_older_model(model, tmp_path, small_files):
    shutil.copytree(model, tmp_path / "world")
    (tmp_path / "world" / "notes.txt").write_text("mine")
    before = {file: file.read_bytes() for file in (tmp_path / "world").rglob("*") if file.is_file()}
    world = load(model)
    small_files(3000)
    with pytest.raises(VidarError, match="world/.*model.safetensors: cannot be written") as error:
        save(world, tmp_path / "world")
    assert ".tmp." not in str(error.value) and [file.name for file in tmp_path.iterdir()] == ["world"]
    assert {file: file.read_bytes() for file in (tmp_path / "world").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "name", ["tokenizer/model.safetensors", "transformer/model.safetensors", "transformer/config.json", "world.json"]
)
def test_a_changed_model_is_refused(model, tmp_path, name):
    save(load(model), tmp_path / "world", dtype=None)
    load(tmp_path / "world")
    file = tmp_path / "world" / name
    data = bytearray(file.read_bytes())
    if file.suffix == ".json":
        at = next(n for n in range(len(data) - 1, 0, -1) if data[n] in b"0123456789")
        data[at] = data[at] - 1 if data[at] > 48 else 49
    else:
        data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(VidarError, match=f"{file.parent}/") as error:
        load(tmp_path / "world")
    assert "\n" not in str(error.value)
