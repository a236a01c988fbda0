from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.config import from_dict
from vidar.data.index import load_index, save_index
from vidar.data.reader import data_info, episodes, read_episode, samples
from vidar.data.shards import ShardWriter
from vidar.data.validate import validate
from vidar.types import UsageError, VidarError


def test_round_trip_of_everything(shards, episode, spec):
    path = shards(count=5)
    got = list(episodes(path, "train"))
    assert [e.name for e in got] == ["ep00", "ep01", "ep02", "ep03", "ep04"]
    for k, e in enumerate(got):
        want = episode(k)
        assert e.frames.shape == want.frames.shape
        assert np.abs(e.frames.astype(int) - want.frames)[:, :, [4, -4]].max() <= 3  # lossy, away from the edge
        assert np.array_equal(e.actions, want.actions) and e.actions.dtype == np.float32
        assert e.extras.keys() == want.extras.keys()
        for name, array in want.extras.items():
            assert np.array_equal(e.extras[name], array) and e.extras[name].dtype == array.dtype
        assert (e.fps, e.spec, e.source, e.caption, e.meta) == (17.5, spec, want.source, want.caption, want.meta)


def test_lossless_is_exact(tmp_path, spec, episode):
    frames = np.random.default_rng(0).integers(0, 256, (4, 15, 17, 3), dtype=np.uint8)
    with ShardWriter(tmp_path / "d", "train", spec, lossless=True) as writer:
        writer.write(episode(0, 4, frames=frames, extras={}))
    assert np.array_equal(read_episode(tmp_path / "d", "train", 0).frames, frames)


def test_layout_of_a_shard(shards, spec):
    path = shards(count=3)
    assert sorted(os.listdir(path)) == ["set-train-000000.tar", "set-train-000001.tar", "shards.json"]
    with tarfile.open(path / "set-train-000000.tar") as tar:
        names = tar.getnames()
        side = json.load(tar.extractfile("ep00.json"))
    assert names[:6] == [f"ep00.{x}" for x in ("mp4", "json", "actions.npy", "number.npy", "depth.npz", "txt")]
    assert {"schema", "n_frames", "fps", "height", "width", "episode_id", "start_frame", "license"} <= side.keys()
    assert (side["n_frames"], side["height"], side["width"], side["fps"]) == (24, 23, 32, 17.5)
    assert from_dict(side["action_space"]) == spec
    index = json.loads((path / "shards.json").read_text())
    assert [(s["samples"], s["frames"], s["split"]) for s in index["shards"]] == [(2, 48, "train"), (1, 24, "train")]


def test_large_uint8_extras_are_packed_and_shards_repeat_to_the_byte(shards, episode, spec, tmp_path, monkeypatch):
    depth = np.arange(24 * 60 * 64, dtype=np.uint32).reshape(24, 60, 64).astype(np.uint8)
    one = shards(count=1, name="one", extras={"depth": depth})
    monkeypatch.setattr(time, "time", lambda: 2e9)  # another day
    two = shards(count=1, name="two", extras={"depth": depth})
    tars = [next(folder.glob("*.tar")) for folder in (one, two)]
    assert tars[0].read_bytes() == tars[1].read_bytes() and tars[0].stat().st_size < depth.nbytes
    assert np.array_equal(read_episode(one, "train", 0).extras["depth"], depth)


def test_second_split_and_more_of_the_first_keep_what_is_there(shards, episode, spec):
    path = shards(count=3)
    first = (path / "set-train-000001.tar").read_bytes()
    shards(count=2, split="test")
    with ShardWriter(path, "train", spec) as writer:
        with pytest.raises(VidarError, match="ep01.*already"):
            writer.write(episode(1))
        writer.write(episode(9))
    assert (path / "set-train-000001.tar").read_bytes() == first
    info = data_info(path)
    assert info.splits == {"train": 4, "test": 2} and (info.episodes, info.frames) == (6, 144)
    assert read_episode(path, "train", 3).name == "ep09"
    assert read_episode(path, "test", "ep01").caption == "episode 1"
    assert validate(path).ok


def test_two_open_writers_share_a_folder(tmp_path, spec, episode):
    with ShardWriter(tmp_path / "d", "train", spec) as a, ShardWriter(tmp_path / "d", "test", spec) as b:
        a.write(episode(0))
        b.write(episode(1))
    assert data_info(tmp_path / "d").splits == {"test": 1, "train": 1} and validate(tmp_path / "d").ok


def test_bad_episodes_are_refused_by_name_and_leave_the_writer_usable(tmp_path, spec, episode):
    good = episode(3)
    nan = good.actions.copy()
    nan[5, 2] = np.nan
    bad = {
        "at least 2": episode(0, 1, name="solo"),
        "T x 3": episode(0, name="narrow", actions=np.zeros((24, 2), np.float32)),
        "row 5": episode(0, name="nan", actions=nan),
        "one per frame": episode(0, name="late", actions=good.actions[:-1]),
        "ActionSpec": episode(0, name="other", spec=ActionSpec(actions=(Action(name="x"),))),
        "uint8": episode(0, name="float", frames=good.frames.astype(np.float32)),
        "row per frame": episode(0, name="extra", extras={"pose": np.zeros((3, 4))}),
        "not 'actions'": episode(0, name="clash", extras={"actions": np.zeros(24)}),
        "Python objects": episode(0, name="pickle", extras={"thing": np.array([None] * 24)}),
        "plain JSON": episode(0, name="meta", meta={"x": object()}),
        "no dot": episode(0, name="a.b"),
        "no slash": episode(0, name="a/../b"),
        "height 23": episode(0, name="size", frames=good.frames[:, :20]),
        "17.5 fps": episode(0, name="rate", fps=35.0),
    }
    with ShardWriter(tmp_path / "d", "train", spec) as writer:
        writer.write(episode(1))
        for message, wrong in bad.items():
            with pytest.raises(VidarError, match=message) as caught:
                writer.write(wrong)
            assert wrong.name in str(caught.value) and "\n" not in str(caught.value)
        writer.write(good)
    assert [e.name for e in episodes(tmp_path / "d", "train")] == ["ep01", "ep03"]
    assert validate(tmp_path / "d").ok


def test_row_zero_is_stored_as_zeros_and_need_not_be_legal(tmp_path, spec, episode):
    actions = episode(0).actions.copy()
    actions[0] = np.nan
    with ShardWriter(tmp_path / "d", "train", spec) as writer:
        writer.write(episode(0, actions=actions))
    assert not read_episode(tmp_path / "d", "train", 0).actions[0].any()
    camera = ActionSpec(actions=(Action(name="yaw", kind="camera", size=11, noop=5),))
    with ShardWriter(tmp_path / "c", "train", camera) as writer:
        writer.write(episode(0, actions=np.full((24, 1), 5.0), spec=camera))
    assert read_episode(tmp_path / "c", "train", 0).actions[:, 0].tolist() == [0] + [5] * 23


def test_output_that_is_a_file_or_under_one(tmp_path, spec):
    (tmp_path / "f").write_text("x")
    for path in (tmp_path / "f", tmp_path / "f" / "g"):
        with pytest.raises(VidarError, match=r"f.*cannot be made a folder"):
            ShardWriter(path, "train", spec)
    assert (tmp_path / "f").read_text() == "x"


def test_other_actions_in_the_same_folder_are_refused(shards):
    with pytest.raises(VidarError, match="other actions"):
        ShardWriter(shards(), "test", ActionSpec(actions=(Action(name="jump"),)))


def test_an_error_in_the_block_keeps_what_was_written(tmp_path, spec, episode):
    with pytest.raises(KeyboardInterrupt):
        with ShardWriter(tmp_path / "d", "train", spec) as writer:
            writer.write(episode(0))
            raise KeyboardInterrupt
    assert data_info(tmp_path / "d").episodes == 1 and validate(tmp_path / "d").ok


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from conftest import SPEC, make_episode
from vidar.data.shards import ShardWriter
with ShardWriter(sys.argv[1], "train", SPEC, max_samples=3) as writer:
    for k in range(10_000):
        writer.write(make_episode(k % 16, name=f"e{k:05d}"))
        print(k, flush=True)
"""


def test_killed_writer_leaves_a_valid_prefix(tmp_path, spec, episode, after=7):
    path = tmp_path / "d"
    command = [sys.executable, "-B", "-c", KILLED, str(path), os.path.dirname(__file__)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) == after:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    names = [e.name for e in episodes(path, "train")]
    assert len(names) >= (after // 3) * 3 and len(names) % 3 == 0
    assert names == [f"e{k:05d}" for k in range(len(names))]
    report = validate(path)
    assert report.samples in (len(names), len(names) + 3)  # killed between the rename and the index
    assert all("killed" in problem for problem in report.problems)
    for stray in path.glob("*.tmp.*"):
        stray.unlink()
    with ShardWriter(path, "train", spec) as writer:  # goes on where the index ends
        writer.write(episode(1, name="next"))
    assert validate(path).ok and data_info(path).episodes == len(names) + 1


RECORD = """
import sys
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
record(ShapesConfig(frames=20), None, sys.argv[1], episodes=12, seed=int(sys.argv[2]), split=sys.argv[3])
"""


def recorders(path, *splits):
    commands = [[sys.executable, "-c", RECORD, str(path), str(1000 * n), split] for n, split in enumerate(splits)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    return [(process.communicate()[1], process.returncode) for process in started]


def test_splits_may_be_written_at_the_same_time(tmp_path):
    assert recorders(tmp_path / "d", "train", "test", "more") == [("", 0)] * 3
    assert data_info(tmp_path / "d").splits == {"train": 12, "test": 12, "more": 12} and validate(tmp_path / "d").ok


def test_a_split_has_one_writer_at_a_time(shards, spec, episode, tmp_path):
    with ShardWriter(tmp_path / "set", "train", spec, max_samples=1) as writer:
        writer.write(episode(7))
        with pytest.raises(UsageError, match="set: another process is writing split 'train'"):
            ShardWriter(tmp_path / "set", "train", spec)
        shards(count=1, split="test")
        writer.write(episode(8))
    assert data_info(shards(count=1)).splits == {"train": 3, "test": 1} and validate(tmp_path / "set").ok


def test_a_full_disk_keeps_the_episodes_before(tmp_path, spec, episode, small_files):
    noise = np.random.default_rng(0).integers(0, 256, (24, 23, 32, 3), dtype=np.uint8)
    with pytest.raises(VidarError, match=r"d-train-000000.tar: cannot be written: File too large"):
        with ShardWriter(tmp_path / "d", "train", spec) as writer:
            for k in range(3):
                writer.write(episode(k))
            small_files(writer._open.tell() + 20_000)
            writer.write(episode(3, extras={"noise": noise}))
    assert data_info(tmp_path / "d").episodes == 3 and validate(tmp_path / "d").ok
    assert sorted(os.listdir(tmp_path / "d")) == ["d-train-000000.tar", "shards.json"]


def test_a_writer_removes_unfinished_files_of_its_own_split_only(shards, spec):
    path = shards(count=2)
    for name in ("set-train-000001.tar.tmp.7", "set-train-x-000001.tar.tmp.7", "notes.tmp.7"):
        (path / name).write_bytes(b"half")
    ShardWriter(path, "train", spec).close()
    assert {"set-train-x-000001.tar.tmp.7", "notes.tmp.7"} <= {*os.listdir(path)}
    assert not (path / "set-train-000001.tar.tmp.7").exists()


def test_shards_without_an_index_are_never_replaced(shards, spec):
    """A single shard neither: it may be a whole data set whose index was lost or is a link that leads nowhere."""
    for count, lost in ((4, False), (2, False), (2, True)):
        path = shards(count=count)
        (path / "shards.json").unlink()
        if lost:
            (path / "shards.json").symlink_to("nowhere")
        before = {file.name: file.read_bytes() for file in path.glob("*.tar")}
        with pytest.raises(VidarError, match=r"set-train-000000.tar: is not listed in shards.json"):
            ShardWriter(path, "train", spec)
        assert {file.name: file.read_bytes() for file in path.glob("*.tar")} == before and len(before) == count / 2
        shutil.rmtree(path)


def test_a_new_shard_takes_a_number_that_no_listed_one_has(shards, spec, episode):
    path = shards(count=4)
    index = load_index(path)
    save_index(path, replace(index, shards=index.shards[1:]))
    (path / index.shards[0].name).unlink()
    with ShardWriter(path, "train", spec) as writer:
        writer.write(episode(9))
    assert [e.name for e in episodes(path, "train")] == ["ep02", "ep03", "ep09"] and validate(path).ok


def test_a_tar_of_another_program_is_never_replaced(tmp_path, spec):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "backup.txt").write_text("mine")
    file = tmp_path / "d" / "d-train-000000.tar"
    with tarfile.open(file, "w") as tar:
        tar.add(tmp_path / "d" / "backup.txt", "backup.txt")
    before = file.read_bytes()
    with pytest.raises(VidarError, match="d-train-000000.tar: is not listed"):
        ShardWriter(tmp_path / "d", "train", spec)
    assert file.read_bytes() == before


def test_a_missing_held_out_split_is_named_with_the_remedy(shards):
    """Where a world is measured on games that it has not seen, there must be some."""
    path = shards(count=2)
    with pytest.raises(VidarError, match=r"has no split 'heldout'; available: train; record one, or convert with"):
        samples(path, load_index(path), "heldout")
    with pytest.raises(VidarError, match=r"has no split 'x'; available: train$"):
        samples(path, load_index(path), "x")
