"""The folder of files that can be made again: where it is, and what is removed from it."""

import os
import subprocess
import sys
import threading
import time

import pytest

from vidar.data import cache
from vidar.data.cache import cache_folder, chosen, clean, hold, keep_in, limit, locked, unwritable
from vidar.types import UsageError

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def as_before():
    yield
    keep_in()


def test_the_folder_is_the_chosen_one_or_that_beside_torch_s_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert (cache_folder(), chosen(), limit()) == (tmp_path / "torch" / "vidar", None, 8 << 30)
    keep_in(tmp_path / "mine", 0.5)
    assert (cache_folder(), chosen(), limit()) == (tmp_path / "mine", tmp_path / "mine", 1 << 29)
    with pytest.raises(UsageError, match="^/dev/null/x cannot be written .*; give another folder with --cache"):
        keep_in("/dev/null/x")
    assert chosen() == tmp_path / "mine"


def test_a_folder_without_space_is_named_before_anything_is_written(tmp_path):
    assert not unwritable(tmp_path / "new") and (tmp_path / "new").is_dir()
    assert not unwritable(tmp_path, 1000)
    assert f"{tmp_path} has " in unwritable(tmp_path, 1 << 60)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def written(folder, name, size, age):
    file = folder / name
    file.write_bytes(bytes(size))
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_the_oldest_go_until_the_rest_fits_and_nothing_of_others(tmp_path):
    ours = [f"latents-train-{KEY}.safetensors", f"{KEY}0123-{KEY}.pt2", f"annotations-a_b-{KEY}-01234567.safetensors"]
    earlier = ["latents-train-0123456789ab-p2.safetensors", f"{KEY}4567.pt2", "told-train-0123456789ab.json"]
    theirs = ["x.pt2", "latents-train.safetensors", "latents-train-xyz.safetensors", "shards.json", f"{KEY}.txt", KEY]
    files = [written(tmp_path, name, 100, age) for age, name in enumerate((*ours, *earlier), 1)]
    others = [written(tmp_path, name, 1000, 99) for name in theirs]
    clean(tmp_path, most=600)
    assert all(file.exists() for file in (*files, *others))
    clean(tmp_path, most=350)
    assert [file.exists() for file in files] == [True] * 3 + [False] * 3
    clean(tmp_path, [files[2]], most=0)
    assert [file.exists() for file in files] == [False, False, True, False, False, False]
    assert all(file.exists() for file in others)


def test_what_a_process_holds_stays_and_counts_as_used(tmp_path):
    old = written(tmp_path, f"latents-train-{KEY}.safetensors", 100, 500)
    new = written(tmp_path, f"pictures-train-{KEY}.safetensors", 100, 50)
    words = f"from vidar.data.cache import *; h = hold(Path({str(old)!r})); print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert time.time() - old.stat().st_mtime < 60
    clean(tmp_path, most=0)
    assert old.exists() and not new.exists()
    other.communicate("\n")
    clean(tmp_path, most=0)
    assert not old.exists() and hold(old) is None


def test_what_is_no_file_is_not_held(tmp_path):
    """A pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert [hold(tmp_path / name) for name in ("pipe", "loop", "none", ".")] == [None] * 4


def test_what_a_killed_writer_left_goes_after_a_day(tmp_path):
    names = f"latents-train-{KEY}.safetensors.tmp.7", f"latents-train-{KEY}.safetensors.tmp.8", "x.tmp.9"
    files = [written(tmp_path, name, 10, age) for name, age in zip(names, (2 * cache.LEFT_OVER_S, 10, 10**6))]
    clean(tmp_path, most=0)
    assert [file.exists() for file in files] == [False, True, True]


def test_a_lock_makes_the_second_wait_and_says_so(tmp_path):
    order, waits = [], threading.Event()

    def second():
        with locked(tmp_path / "lock", waits.set):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
