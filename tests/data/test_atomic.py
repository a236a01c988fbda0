"""Locks of folders, and outputs that a full disk or a read-only folder cannot damage."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import save_file

from vidar.data.atomic import lock, lock_folder, make_folder, replacing, replacing_folder
from vidar.types import UsageError, VidarError

HOLD = """
import sys, time
from pathlib import Path
from vidar.data.atomic import lock_folder
with lock_folder(Path(sys.argv[1]), "test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "d")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="d: another test is writing there"):
        with lock_folder(tmp_path / "d", "test"):
            pass
    holder.kill()
    holder.communicate()
    with lock_folder(tmp_path / "d", "test"):  # its lock file is still there, and locks nothing
        with pytest.raises(UsageError, match="another test"):  # in one process too
            with lock_folder(tmp_path / "d", "test"):
                pass
    assert not list((tmp_path / "d").iterdir())


def test_waiting_locks_exclude_one_another(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(40):
            with lock(tmp_path / "x.lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert most == 1 and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_a_folder_is_one_line(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(VidarError, match="f/g: cannot be made a folder"):
        make_folder(tmp_path / "f" / "g")
    with pytest.raises(UsageError, match="f: cannot be a folder to write to"):
        with lock_folder(tmp_path / "f", "test"):
            pass


def text(file):
    file.write_text("x" * 4000)


def tensors(file):
    save_file({"a": torch.zeros(1000)}, file)


@pytest.mark.parametrize("write", [text, tensors])
def test_a_full_disk_is_one_line_and_leaves_the_older_file(tmp_path, small_files, write):
    file = tmp_path / "out"
    file.write_text("older")
    small_files(1000)
    with pytest.raises(VidarError, match="out: cannot be written: .*(File too large|os error 27)"):
        with replacing(file) as temporary:
            write(temporary)
    assert file.read_text() == "older" and os.listdir(tmp_path) == ["out"]


def test_a_folder_is_replaced_with_its_mark_last(tmp_path):
    folder = tmp_path / "model"
    for name in ("a/x", "b", "mark.json", "own/notes"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("older")
    with pytest.raises(VidarError, match="model: cannot be written: No such file or directory"):
        with replacing_folder(folder, "mark.json") as temporary:
            (temporary / "b").write_text("newer")
            (tmp_path / "missing" / "x").write_text("")
    with pytest.raises(VidarError, match="model/c: is not a regular file"):
        with replacing_folder(folder, "mark.json") as temporary:
            (temporary / "c").mkdir()
            with replacing(temporary / "c"):
                pass
    assert (folder / "b").read_text() == (folder / "mark.json").read_text() == "older"
    with replacing_folder(folder, "mark.json") as temporary:
        (temporary / "a").mkdir()
        for name in ("a/y", "b", "mark.json"):
            (temporary / name).write_text("newer")
        assert (folder / "mark.json").read_text() == "older"
    there = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert there == ["a/y", "b", "mark.json", "own/notes"]
    assert (folder / "mark.json").read_text() == "newer" and os.listdir(tmp_path) == ["model"]
