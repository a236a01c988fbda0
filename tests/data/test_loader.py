from __future__ import annotations

import io
import itertools
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import vidar.data.loader as loader
from vidar.data.index import load_index, save_index
from vidar.data.loader import Clips, ClipsConfig, data_info, read_episode
from vidar.data.reader import check_clips
from vidar.data.shards import ShardWriter
from vidar.types import Segment, UsageError, VidarError


def clips(path, /, rank: int = 0, world: int = 1, **changes) -> Clips:
    values = {"path": str(path), "clip_frames": 6, "batch": 4, "seed": 3, "extras": ("number", "depth")}
    return ClipsConfig(**(values | changes)).build(rank, world)


def seen(batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(frame number, episode) that the pixels of each frame tell, long [B, T]."""
    pixels = batch.video.float()
    left, right = pixels[:, :, 4:-4, 4:12, 1], pixels[:, :, 4:-4, 20:28, 1]
    return (left.mean((2, 3)) / 4).round().long(), (right.mean((2, 3)) / 16).round().long()


def same(a, b) -> bool:
    tensors = all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("video", "actions", "unknown", "number"))
    return tensors and a.names == b.names and all(torch.equal(a.extras[n], b.extras[n]) for n in a.extras)


@pytest.mark.parametrize("cache_bytes", [1 << 30, 80_000, 0])
def test_actions_match_the_frames_they_lead_to(shards, cache_bytes):
    data = clips(shards(), cache_bytes=cache_bytes)
    for batch in itertools.islice(data, 30):
        t, k = seen(batch)
        assert isinstance(batch, Segment)
        assert batch.video.shape == (4, 6, 23, 32, 3) and batch.video.dtype == torch.uint8
        assert batch.actions.shape == (4, 6, 3) and batch.actions.dtype == torch.float32
        assert torch.equal(t - t[:, :1], torch.arange(6).expand(4, 6))  # consecutive frames
        assert torch.equal(batch.actions[:, 1:, 0].long(), t[:, 1:])
        assert torch.equal(batch.actions[:, 1:, 1].long(), k[:, 1:])
        torch.testing.assert_close(batch.actions[:, 1:, 2], torch.sin(t[:, 1:].float()))
        assert torch.equal(batch.extras["number"], 100 * k + t)
        assert torch.equal(batch.extras["depth"][:, :, 0, 0].long(), 4 * t)
        assert batch.unknown[:, 0].all() and not batch.unknown[:, 1:].any()
        assert not batch.actions[:, 0].any()
        for row, name in enumerate(batch.names):
            assert name.endswith(f".tar:ep{k[row, 0]:02d}@{t[row, 0]}")


def test_an_off_by_one_would_be_seen(shards):
    batch = clips(shards()).batch(0)
    assert not torch.equal(batch.actions[:, :-1, 0].long()[:, 1:], seen(batch)[0][:, 2:])


def test_every_window_once_per_epoch_in_a_new_order(shards):
    data = clips(shards(count=5), batch=5)
    assert data.windows == 5 * (24 - 6 + 1)
    orders = [[n for i in range(19) for n in data.batch(epoch * 19 + i).names] for epoch in range(2)]
    assert len(set(orders[0])) == 95 and set(orders[0]) == set(orders[1]) and orders[0] != orders[1]
    sorted_order = sorted(orders[0])
    assert orders[0] != sorted_order
    strided = clips(shards(name="other"), stride=6)
    assert strided.windows == 5 * 4
    assert {int(n.split("@")[1]) for i in range(5) for n in strided.batch(i).names} == {0, 6, 12, 18}


def test_order_is_a_function_of_seed_and_index_alone(shards):
    path = shards()
    one = list(itertools.islice(clips(path), 60))  # crosses two epochs of 95 windows
    two = clips(path, cache_bytes=0, prefetch=0)
    for index in [59, 0, 23, 24, 47, 5]:
        assert same(two.batch(index), one[index])
    resumed = clips(path).stream(40)
    assert all(same(next(resumed), one[40 + i]) for i in range(10))
    assert not same(clips(path, seed=4).batch(0), one[0])
    assert [b.number.tolist() for b in one[:2]] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_partition_an_epoch(shards, world):
    path = shards()
    ranks = [clips(path, rank, world, batch=1) for rank in range(world)]
    steps = ranks[0].windows // world + 1
    numbers = {(int(b.number[0]), b.names[0]) for data in ranks for b in (data.batch(i) for i in range(steps))}
    whole = clips(path, batch=1)
    assert numbers == {(i, whole.batch(i).names[0]) for i in range(steps * world)}
    epoch = [name for number, name in numbers if number < whole.windows]
    assert len(epoch) == len(set(epoch)) == whole.windows


def test_the_union_of_ranks_is_the_batch_of_one(shards):
    path = shards()
    big = clips(path, batch=4).batch(7)
    halves = [clips(path, rank, 2, batch=2).batch(7) for rank in range(2)]
    assert torch.equal(torch.cat([h.video for h in halves]), big.video)
    assert torch.equal(torch.cat([h.number for h in halves]), big.number)


def test_more_clips_in_a_batch_than_in_the_data(shards):
    batch = clips(shards(count=1), clip_frames=23, batch=7).batch(0)
    assert sorted(name.split("@")[1] for name in batch.names[:6]) == ["0", "0", "0", "1", "1", "1"]


def test_short_episodes_are_skipped_and_counted(shards, episode, spec, capsys):
    path = shards(count=2)
    with ShardWriter(path, "train", spec) as writer:
        writer.write(episode(7, 5))
    data = clips(path)
    assert data.skipped == 1 and data.windows == 2 * 19
    line = (
        "1 of 3 episodes of split 'train' are shorter than a clip of 6 frames and are not used; to use them, set data."
    )
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
    check_clips(data.config.path, "train", 6, "data.clip_frames")
    assert capsys.readouterr().err == said
    check_clips(data.config.path, "train", 2, "data.clip_frames")
    assert not capsys.readouterr().err
    with pytest.raises(VidarError, match="longest has 24 frames, clip_frames is 25"):
        clips(path, clip_frames=25)
    whole = clips(path, clip_frames=24)
    assert whole.windows == 2


def test_wrong_wishes_are_one_line(shards, tmp_path):
    path = shards()
    for changes, kind, message in [
        ({"split": "dev"}, VidarError, "no split 'dev'; available: train"),
        ({"path": str(tmp_path / "none")}, VidarError, "no such data folder"),
        ({"path": str(tmp_path)}, VidarError, "shards.json: missing"),
        ({"batch": 0}, UsageError, "batch is 0"),
        ({"clip_frames": 0}, UsageError, "clip_frames is 0"),
    ]:
        with pytest.raises(kind, match=message):
            clips(path, **changes)
    with pytest.raises(VidarError, match="no extra 'pose'; available: number, depth"):
        clips(path, extras=("pose",)).batch(0)
    with pytest.raises(UsageError, match="rank 2"):
        clips(path, rank=2, world=2)
    with pytest.raises(VidarError, match="no episode 'ep99'"):
        read_episode(path, "train", "ep99")


def test_damage_is_found_on_first_use_and_named(shards):
    path = shards(count=1, max_samples=1)
    tar = next(path.glob("*.tar"))
    with tarfile.open(tar) as archive:
        at = archive.getmember("ep00.mp4").offset_data + 900
    data = bytearray(tar.read_bytes())
    data[at] ^= 1
    tar.write_bytes(data)
    for cache_bytes in (0, 1 << 30):
        with pytest.raises(VidarError, match=r"set-train-000000.tar:ep00: .mp4 does not match its sha256"):
            next(iter(clips(path, cache_bytes=cache_bytes)))


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.8])
def test_truncated_shard_is_refused_before_training(shards, keep):
    path = shards(count=2)
    tar = next(path.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[: int(tar.stat().st_size * keep)])
    with pytest.raises(VidarError, match=r"set-train-000000.tar.*vidar data validate"):
        clips(path)


def test_a_pickle_in_a_shard_is_never_opened(shards, tmp_path):
    path = shards(count=1)
    tar = next(path.glob("*.tar"))
    bomb = f"cos\nsystem\n(S'touch {tmp_path}/executed'\ntR.".encode()
    with tarfile.open(tar, "a", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("ep00.pyd", "ep00.pkl", "ep00.pose.npy"):
            info = tarfile.TarInfo(name)
            info.size = len(bomb)
            archive.addfile(info, io.BytesIO(bomb))
    index = load_index(path)
    save_index(path, replace(index, shards=(replace(index.shards[0], bytes=tar.stat().st_size),)))
    batch = clips(path).batch(0)
    assert batch.extras.keys() == {"number", "depth"}
    with pytest.raises(VidarError, match="no extra 'pose'"):
        clips(path, extras=("pose",)).batch(0)
    read_episode(path, "train", 0)
    assert not (tmp_path / "executed").exists()


def test_decode_happens_once_while_the_budget_lasts(shards, monkeypatch):
    calls = []
    plain = loader.decode_frames
    monkeypatch.setattr(loader, "decode_frames", lambda *a: calls.append(a) or plain(*a))
    path = shards()
    data = clips(path, prefetch=0)
    list(itertools.islice(data, 50))
    assert len(calls) == 5
    calls.clear()
    size = 24 * 23 * 32 * 3
    list(itertools.islice(clips(path, prefetch=0, cache_bytes=2 * size), 50))
    assert 100 < len(calls) < 140 and sum(len(a) == 3 for a in calls) == 2  # two whole, three fifths of 200 clips


def test_threads_stop_and_failures_arrive_in_turn(shards, monkeypatch):
    data = clips(shards())
    stream = data.stream()
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "vidar-clips"]
    plain = data.batch
    monkeypatch.setattr(data, "batch", lambda i: plain(i) if i < 3 else (_ for _ in ()).throw(VidarError("gone")))
    stream = data.stream()
    assert [next(stream).number[0] for _ in range(3)] == [0, 4, 8]
    with pytest.raises(VidarError, match="gone"):
        next(stream)


def test_prefetch_works_ahead_and_no_further(shards, monkeypatch):
    data = clips(shards(), prefetch=2)
    done = []
    plain = data.batch
    monkeypatch.setattr(data, "batch", lambda i: done.append(i) or plain(i))
    stream = data.stream()
    next(stream)
    deadline = time.monotonic() + 5
    while len(done) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert done == [0, 1, 2, 3]  # one handed out, two waiting, one at the door
    stream.close()


def test_data_info(shards, spec):
    info = data_info(shards(count=3))
    assert (info.spec, info.fps, info.height, info.width) == (spec, 17.5, 23, 32)
    assert (info.splits, info.episodes, info.frames) == ({"train": 3}, 3, 72)
    assert np.isfinite(info.fps)
