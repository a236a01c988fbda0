from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from vidar.data.index import load_index, save_index
from vidar.data.inspect import inspect
from vidar.data.reader import scan_shard
from vidar.data.shards import pack_array
from vidar.data.validate import Report, validate
from vidar.data.video import encode_video
from vidar.types import VidarError


def rewrite(path, change, seal: bool = True) -> Report:
    """Rewrite the members of the only shard by `change(dict)`, mend the side file's hashes, and validate."""
    tar = next(path.glob("*.tar"))
    with tarfile.open(tar) as archive:
        members = {name: archive.extractfile(name).read() for name in archive.getnames()}
    change(members)
    if seal:
        side = json.loads(members["ep00.json"])
        side["sha256_mp4"] = hashlib.sha256(members["ep00.mp4"]).hexdigest()
        side["sha256_actions"] = hashlib.sha256(members["ep00.actions.npy"]).hexdigest()
        members["ep00.json"] = json.dumps(side).encode()
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    index = load_index(path)
    digest = hashlib.sha256(tar.read_bytes()).hexdigest()
    save_index(
        path, replace(index, shards=(replace(index.shards[0], bytes=tar.stat().st_size, sha256=digest, sides=""),))
    )
    return validate(path)


def edit_side(**values):
    def change(members):
        members["ep00.json"] = json.dumps(json.loads(members["ep00.json"]) | values).encode()

    return change


def put(name: str, data: bytes):
    return lambda members: members.__setitem__(name, data)


def actions(width: int = 3, count: int = 24, **cells) -> bytes:
    values = np.zeros((count, width), np.float32)
    values[int(cells.get("row", 1)), 0] = cells.get("value", 0)
    return pack_array(values, "test")[1]


def video(count: int = 24, height: int = 23, fps: float = 17.5) -> bytes:
    return encode_video(np.zeros((count, height, 32, 3), np.uint8), fps)


def test_good_data_is_ok_and_counted(shards):
    path = shards(count=5)
    visited = []
    report = validate(path, visited.append)
    assert report.ok and (report.shards, report.samples, report.frames) == (3, 5, 120)
    assert visited[0] == "set-train-000000.tar:ep00" and len(visited) == 5
    assert report.lines() == ["5 samples, 120 frames in 3 shards: ok"]


@pytest.mark.parametrize(
    "change, problem",
    [
        (put("ep00.mp4", video(23)), "23 frames decode, .json says 24"),
        (put("ep00.mp4", video(25)), "25 frames decode, .json says 24"),
        (put("ep00.mp4", video(height=40)), "video is 40 x 32, .json says 23 x 32"),
        (put("ep00.mp4", video(fps=35)), "video runs at 35 fps"),
        (put("ep00.mp4", b"not a video"), "cannot be read as video"),
        (put("ep00.mp4", video()[:-300]), "decode|cannot be read as video"),
        (put("ep00.actions.npy", actions(width=2)), r"float32 \[24, 2\], expected float32 \[24, 3\]"),
        (put("ep00.actions.npy", actions(count=23)), r"float32 \[23, 3\]"),
        (put("ep00.actions.npy", actions(row=7, value=64)), "'time' row 7 is 64"),
        (put("ep00.actions.npy", actions(row=7, value=np.nan)), "'time' row 7 is nan"),
        (put("ep00.actions.npy", actions(row=0, value=1)), "row 0 is not zeros"),
        (put("ep00.actions.npy", b"\x93NUMPY\x01\x00" + b"\xff" * 40), "not a plain array"),
        (edit_side(n_frames=1), "out of range"),
        (edit_side(n_frames="24"), "'n_frames' is missing or of the wrong kind"),
        (edit_side(schema=2), "schema"),
        (edit_side(fps=float("nan")), "out of range"),
        (edit_side(height=24), "height 24 differs from shards.json"),
        (edit_side(action_space={"type": "os.system"}), "action_space.*refused"),
        (edit_side(action_space={"type": "vidar.actions.Action", "name": "x"}), "not an ActionSpec"),
        (edit_side(sha256_extras={"number": "0" * 64}), "number.npy does not match its sha256"),
        (edit_side(sha256_extras={"pose": "0" * 64}), "has no .pose.npy member"),
        (put("ep00.pkl", b"cos\nsystem\n(S'false'\ntR."), r"unknown member .pkl \(never opened\)"),
    ],
)
def test_every_fault_of_a_sample_is_named(shards, change, problem):
    report = rewrite(shards(count=1), change)
    assert len(report.problems) >= 1
    assert any(re.search(problem, line) for line in report.problems), report.problems
    assert all(line.startswith("set-train-000000.tar") and "\n" not in line for line in report.problems)


@pytest.mark.parametrize("member", ["ep00.mp4", "ep00.actions.npy", "ep00.json", "ep00.number.npy"])
def test_changed_and_missing_members(shards, member):
    def flip(members):
        data = bytearray(members[member])
        data[len(data) // 2] ^= 255
        members[member] = bytes(data)

    extension = member.partition(".")[2]
    report = rewrite(shards(count=1, name="flip"), flip, seal=False)
    assert any(extension in line for line in report.problems)
    report = rewrite(shards(count=1, name="drop"), lambda members: members.pop(member), seal=False)
    assert any(f"has no .{extension} member" in line for line in report.problems)


def test_deep_and_huge_json_are_survived(shards):
    deep = b"[" * 100_000 + b"]" * 100_000
    assert "not valid JSON" in rewrite(shards(count=1, name="a"), put("ep00.json", deep), seal=False).problems[0]
    huge = b" " * (1 << 20) + b"{}"
    assert "more than the allowed" in rewrite(shards(count=1, name="b"), put("ep00.json", huge), seal=False).problems[0]


def test_claimed_array_sizes_are_not_allocated(shards):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 3)})
    report = rewrite(shards(count=1), put("ep00.actions.npy", header.getvalue()))
    assert any("not a plain array" in line for line in report.problems)


def test_object_arrays_are_not_unpickled(shards, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    report = rewrite(shards(count=1), put("ep00.actions.npy", buffer.getvalue()))
    assert any("not a plain array" in line for line in report.problems)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["cut", "random", "empty", "missing", "zeros", "header"])
def test_damaged_shards_are_reported_and_the_others_counted(shards, kind):
    path = shards(count=6)
    bad = path / "set-train-000001.tar"
    data = bad.read_bytes()
    second = scan_shard(bad).samples["ep03"].members["mp4"][0]
    content = {
        "cut": data[: second + 100],
        "random": np.random.default_rng(0).bytes(9000),
        "empty": b"",
        "zeros": bytes(len(data)),
        "header": data[: second - 400] + b"\xff" + data[second - 399 :],
        "missing": None,
    }[kind]
    bad.unlink() if content is None else bad.write_bytes(content)
    report = validate(path)
    assert not report.ok and report.samples == {"cut": 5, "header": 5}.get(kind, 4)
    assert all(line.startswith("set-train-000001.tar") for line in report.problems), report.problems


@pytest.mark.parametrize(
    "name, kind", [("/etc/passwd", b"0"), ("../x.mp4", b"0"), ("d/" + "x" * 99, b"0"), ("x.mp4", b"2"), ("x.mp4", b"3")]
)
def test_paths_links_and_devices_are_refused(tmp_path, name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd" if kind == b"2" else ""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(info)
    scan = scan_shard(tmp_path / "x.tar")
    assert not scan.samples and ("path in its name" in scan.problem or "not a plain file" in scan.problem)


def test_stray_files_and_missing_index(shards):
    path = shards(count=2)
    (path / "set-train-000001.tar.tmp.123").write_bytes(b"half")
    assert validate(path).problems == [
        "set-train-000001.tar.tmp.123: left over from a writer that was killed; remove it"
    ]
    (path / "set-train-000001.tar.tmp.123").unlink()
    (path / "set-train-000001.tar").write_bytes((path / "set-train-000000.tar").read_bytes())
    assert validate(path).problems[0] == (
        "set-train-000001.tar: is not listed in shards.json; its writer was killed, the next one replaces it"
    )
    (path / "set-train-000001.tar").rename(path / "copy.tar")
    assert validate(path).problems[0] == "copy.tar: is not listed in shards.json; nothing reads it; move it away"
    (path / "copy.tar").rename(path / "set-train-000001.tar")
    (path / "shards.json").write_text('{"schema": 1, "shards": [{"name": "../x.tar"}]}')
    report = validate(path)
    assert "not a valid index" in report.problems[0] and report.samples == 4
    (path / "shards.json").unlink()
    assert "missing" in validate(path).problems[0]
    with pytest.raises(VidarError, match="no such data folder"):
        validate(path / "none")


def test_random_damage_never_crashes(shards):
    path = shards(count=2)
    tar = next(path.glob("*.tar"))
    clean = tar.read_bytes()
    draws = np.random.default_rng(5)
    for _ in range(40):
        data = np.frombuffer(clean, np.uint8).copy()
        where = draws.integers(0, len(data), 12)
        data[where] ^= draws.integers(1, 256, 12).astype(np.uint8)
        tar.write_bytes(data.tobytes())
        assert not validate(path).ok  # the hash of the shard at the least


def test_inspect_counts_what_is_there(shards):
    shards(count=3)
    table = inspect(shards(count=2, split="test"))
    assert (table["episodes"], table["frames"], table["height"], table["width"]) == (5, 120, 23, 32)
    assert table["hours"] == pytest.approx(120 / 17.5 / 3600) and table["sources"] == {"test:numbered": 5}
    assert table["splits"]["test"] == {"episodes": 2, "frames": 48, "shortest": 24, "longest": 24}
    time = table["actions"]["time"]
    assert time["0"] == 0 and time["1"] == time["23"] == pytest.approx(1 / 23) and time["24"] == 0
    assert table["actions"]["episode"]["1"] == pytest.approx(2 / 5)
    assert table["actions"]["episode"]["2"] == pytest.approx(1 / 5)
    turn = table["actions"]["turn"]
    assert len(turn) == 10 and sum(turn.values()) == pytest.approx(1)
    want = np.mean(np.sin(np.arange(1, 24)) >= 0.8)
    assert turn["0.8..1"] == pytest.approx(want)
    json.dumps(table)
