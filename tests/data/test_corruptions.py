"""Damage of a recorded folder: whatever a reader refuses is reported by `validate`, and nothing goes on silently."""

import hashlib
import json
import tarfile

import numpy as np
import pytest

from vidar.data.loader import ClipsConfig
from vidar.data.reader import episodes, scan_shard
from vidar.data.validate import validate
from vidar.types import VidarError

FIRST, SECOND = "set-train-000000.tar", "set-train-000001.tar"


def content(path) -> str:
    """A hash of everything that readers give: the episodes, and clips with an extra."""
    digest = hashlib.sha256()
    for e in episodes(path, "train"):
        for array in (e.frames, e.actions, *(e.extras[name] for name in sorted(e.extras))):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr((e.name, e.fps, e.spec, e.source, e.caption, e.meta)).encode())
    for prefetch in range(3):
        batch = ClipsConfig(path=str(path), clip_frames=8, batch=2, extras=("number",)).build().batch(prefetch)
        digest.update(batch.video.numpy().tobytes() + batch.actions.numpy().tobytes() + repr(batch.names).encode())
    return digest.hexdigest()


def index(change, sealed=False):
    """Change the index; unless it stays sealed, without its own hash, as an index of an earlier version."""

    def apply(path):
        data = json.loads((path / "shards.json").read_text())
        change(data)
        if not sealed:
            data.pop("sha256")
        (path / "shards.json").write_text(json.dumps(data))

    return apply


def entry(**values):
    return index(lambda data: data["shards"][0].update(values))


def stale(data):
    data["shards"].insert(0, {**data["shards"][0], "samples": 3, "sha256": "0" * 64})


def shard(change):
    """Change the bytes of the first shard, given the places of the members of its first sample."""

    def apply(path):
        data, members = bytearray((path / FIRST).read_bytes()), scan_shard(path / FIRST).samples["ep00"].members
        (path / FIRST).write_bytes(change(data, members))

    return apply


def flip(member):
    def change(data, members):
        data[sum(members[member]) - 40] ^= 1
        return data

    return shard(change)


def side(old: bytes, new: bytes):
    return shard(lambda data, _: data.replace(old, new, 1))


def swap(path):
    (path / FIRST).rename(path / "x")
    (path / SECOND).rename(path / FIRST)
    (path / "x").rename(path / SECOND)


def empty(path):
    tarfile.open(path / FIRST, "w").close()
    size = (path / FIRST).stat().st_size
    digest = hashlib.sha256((path / FIRST).read_bytes()).hexdigest()
    one = {"samples": 0, "frames": 0, "bytes": size, "sha256": digest, "sides": ""}
    index(lambda data: data.update(shards=[{**data["shards"][0], **one}]))(path)


def to_folder(path):
    (path / FIRST).unlink()
    (path / FIRST).mkdir()


DAMAGE = {
    "a shard twice, once as it was before": index(stale),
    "a shard twice": index(lambda data: data["shards"].append(data["shards"][0])),
    "other bytes": entry(bytes=1),
    "other samples": entry(samples=1),
    "frames as text": entry(frames="48"),
    "a name with a zero": entry(name="a\0.tar"),
    "a split that is no text": entry(split=3),
    "other side files": entry(sides="0" * 64),
    "another split": index(lambda data: data["shards"][1].update(split="test"), sealed=True),
    "another fps": index(lambda data: data.update(fps=17.0)),
    "no fps": index(lambda data: data.update(fps=float("nan"))),
    "another height": index(lambda data: data.update(height=22)),
    "another action": index(lambda data: data["spec"]["actions"][0].update(name="clock")),
    "a key too many": index(lambda data: data.update(more=1)),
    "no index": lambda path: (path / "shards.json").unlink(),
    "half an index": lambda path: (path / "shards.json").write_text((path / "shards.json").read_text()[:200]),
    "no UTF-8": lambda path: (path / "shards.json").write_bytes(b"\xff\xfe{}"),
    "a shard is missing": lambda path: (path / FIRST).unlink(),
    "a shard is a folder": to_folder,
    "a shard is cut off": shard(lambda data, _: data[: len(data) // 2]),
    "a shard has an end": shard(lambda data, _: data + bytes(512)),
    "shards change places": swap,
    "no episode": empty,
    "pixels": flip("mp4"),
    "actions": flip("actions.npy"),
    "an extra": flip("number.npy"),
    "a packed extra": flip("depth.npz"),
    "fps of a sample": side(b'"fps": 17.5', b'"fps": 17.6'),
    "a caption": side(b'"caption": "episode 0"', b'"caption": "episode 1"'),
    "a count of frames": side(b'"n_frames": 24', b'"n_frames": 23'),
}


@pytest.fixture
def known(shards):
    """A folder of four episodes in two shards, and what readers give of it."""
    path = shards(count=4)
    return path, content(path)


def outcome(path) -> str:
    try:
        return content(path)
    except VidarError as error:
        assert "\n" not in str(error)
        return "refused"


@pytest.mark.parametrize("name", DAMAGE)
def test_what_a_reader_refuses_is_reported(known, name):
    path, _ = known
    DAMAGE[name](path)
    assert outcome(path) == "refused"
    problems = validate(path).problems
    assert problems and all("\n" not in line for line in problems)
    assert any(file in line for line in problems for file in ("shards.json", FIRST, SECOND)), problems


def test_the_remedy_for_a_shard_that_is_listed_twice(known):
    path, want = known
    index(stale, sealed=True)(path)
    (problem,) = validate(path).problems
    assert (
        f"shards.json: lists {FIRST} 2 times; keep the entry number 2 of it, and remove the entry 'sha256'" in problem
    )
    index(lambda data: data["shards"].pop(0))(path)
    assert validate(path).ok and content(path) == want


@pytest.mark.parametrize("seed", range(25))
def test_random_damage_is_refused_and_reported_or_harmless(known, damage, seed):
    path, want = known
    what = damage(path, np.random.default_rng(seed))
    found = outcome(path)
    assert found in (want, "refused"), what
    assert not validate(path).ok or found == want, what
