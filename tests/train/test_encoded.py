"""Stored latents: they belong to their shards, and what is new, changed or damaged is encoded again, and only that."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vidar
from vidar.configs.shapes import tokenizer_shapes
from vidar.data import cache
from vidar.data.annotations import ShapeCaptionConfig
from vidar.data.cache import keep_in
from vidar.data.index import load_index
from vidar.data.synthetic import ShapesConfig
from vidar.nn.pretrained import save_component
from vidar.train import encoded as encodings
from vidar.train import latents
from vidar.train.latents import LatentClipsConfig
from vidar.types import UsageError, VidarError


def recorded(folder, episodes, seed=0):
    vidar.record(ShapesConfig(frames=6), None, folder, episodes=episodes, seed=seed)


def tokenizer(folder, seed):
    made = tokenizer_shapes(preset="tiny").method.tokenizer
    torch.manual_seed(seed)
    save_component(made.build(), made, folder)
    return str(folder)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Data of two shards with a tokenizer."""
    folder = tmp_path_factory.mktemp("original")
    for seed in (0, 100):
        recorded(folder / "data", 2, seed)
    tokenizer(folder / "tokenizer", 0)
    return folder


@pytest.fixture
def place(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


@pytest.fixture
def encoded(monkeypatch):
    """The number of episodes that are encoded, as a list that grows."""
    seen, real = [], latents.codes

    def codes(tokenizer, frames, patch):
        seen.extend([1] * (len(frames) == 6))  # the estimate of the size encodes 2 frames
        return real(tokenizer, frames, patch)

    monkeypatch.setattr(latents, "codes", codes)
    return seen


def config(place, **more):
    return LatentClipsConfig(
        path=str(place / "data"), tokenizer=str(place / "tokenizer"), clip_frames=3, batch=1, **more
    )


def stored(place):
    (file,) = (place / "data").glob("latents-*")
    return file


def whole(clips):
    """The clips in memory, so that damage to the file does not reach them."""
    clips.codes, clips.actions = clips.codes.clone(), clips.actions.clone()
    return clips


def same(a, b):
    return a.names == b.names and torch.equal(a.codes, b.codes) and torch.equal(a.actions, b.actions)


def test_only_what_was_added_is_encoded(place, encoded, capsys):
    first = config(place).build()
    assert len(encoded) == 4 and same(config(place).build(), first) and len(encoded) == 4
    recorded(place / "data", 3, 200)
    second = config(place).build()
    assert len(encoded) == 7 and len(second.names) == 7
    assert second.names[:4] == first.names and torch.equal(second.codes[:24], first.codes)
    assert "encoding 18 frames" in capsys.readouterr().err
    stored(place).unlink()
    assert same(config(place).build(), second)


def test_data_recorded_again_is_never_taken_for_the_old(place, encoded):
    old = config(place).build()
    kept = stored(place).read_bytes()
    name = stored(place).name
    shutil.rmtree(place / "data")
    vidar.record(ShapesConfig(frames=6), None, place / "data", episodes=4, seed=7)
    (place / "data" / name).write_bytes(kept)
    new = config(place).build()
    assert len(encoded) == 8 and not torch.equal(new.codes, old.codes) and not (set(new.names) & set(old.names))


def test_another_tokenizer_has_a_file_of_its_own(place, encoded):
    old = config(place).build()
    tokenizer(place / "tokenizer", 1)
    assert not torch.equal(config(place).build().codes, old.codes)
    tokenizer(place / "tokenizer", 0)
    assert same(config(place).build(), old) and len(encoded) == 8
    assert len(list((place / "data").glob("latents-*"))) == 2


def cut(file):
    file.write_bytes(file.read_bytes()[:2000])


def empty(file):
    file.write_bytes(b"")


def other_shape(file):
    tensors = load_file(file)
    save_file({**tensors, "codes": tensors["codes"][:-1]}, file, metadata={"names": "a", "parts": "[]"})


def of_an_earlier_version(file):
    save_file(load_file(file), file, metadata={"names": "a\nb"})


@pytest.mark.parametrize("damage", [cut, empty, other_shape, of_an_earlier_version])
def test_a_damaged_file_is_made_again_with_one_line(place, damage, encoded, capsys):
    fresh = whole(config(place).build())
    damage(stored(place))
    capsys.readouterr()
    assert same(config(place).build(), fresh) and len(encoded) == 8
    said = capsys.readouterr().err
    assert said.count(f"{stored(place)}: damaged (") == 1 and said.count("\n") == 2
    assert same(config(place).build(), fresh) and not capsys.readouterr().err


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_refused_before_anything_is_encoded(place, make, encoded):
    config(place).build()
    name = stored(place)
    name.unlink()
    make(name)
    encoded.clear()
    with pytest.raises(VidarError, match="latents-.*: is not a regular file; give another name, or remove it"):
        config(place).build()
    assert not encoded


def test_of_a_flipped_byte_the_other_shard_is_kept(place, encoded, capsys):
    fresh = whole(config(place).build())
    data = bytearray(stored(place).read_bytes())
    data[-fresh.codes.nbytes // 8] ^= 1  # codes come last, those of the second shard at the end
    stored(place).write_bytes(data)
    assert same(config(place).build(), fresh) and len(encoded) == 6
    second = load_index(place / "data").shards[1].name
    assert f"{stored(place)}: the part of {second} is damaged; it is encoded again" in capsys.readouterr().err


def test_random_damage_never_shows(place):
    fresh = whole(config(place).build())
    sound, rng = stored(place).read_bytes(), np.random.default_rng(0)
    for _ in range(15):
        data = bytearray(sound)
        kind, at = rng.integers(4), int(rng.integers(len(data)))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + 64] = rng.bytes(64)
        else:
            data[int(rng.integers(1500))] ^= 255  # the header
        stored(place).write_bytes(data)
        assert same(config(place).build(), fresh)


def test_a_damaged_shard_is_named_and_what_was_encoded_stays(place, encoded):
    shard = place / "data" / load_index(place / "data").shards[1].name
    sound = shard.read_bytes()
    shard.write_bytes(sound[:-600] + b"x" + sound[-599:])
    with pytest.raises(VidarError, match=f"{shard.name}: is not the file that shards.json lists"):
        config(place).build()
    assert len(encoded) == 2
    shard.write_bytes(sound)
    assert len(config(place).build().names) == 4 and len(encoded) == 4


def test_a_killed_process_loses_no_more_than_the_last_minutes(place, encoded, monkeypatch):
    """The file is written while later shards are encoded: here after each one, and the second one fails for good."""
    monkeypatch.setattr(encodings, "OFTEN", -1.0)
    written, real = list[int](), encodings.Encoding._write

    def noted(self, folder, known):
        written.append(len(known))
        real(self, folder, known)

    monkeypatch.setattr(encodings.Encoding, "_write", noted)
    config(place).build()
    assert written == [1, 2, 2] and len(encoded) == 4


def test_two_at_once_encode_once(place, encoded):
    made, barrier = [], threading.Barrier(2)

    def one():
        barrier.wait()
        made.append(config(place).build())

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(*made) and len(encoded) == 4


def test_the_folder_that_was_asked_for(place, tmp_path, encoded):
    own = config(place, cache=str(tmp_path / "own")).build()
    assert not list((place / "data").glob("latents-*")) and len(list((tmp_path / "own").glob("latents-*"))) == 1
    keep_in(tmp_path / "all")
    try:
        assert same(config(place).build(), own) and len(list((tmp_path / "all").glob("latents-*"))) == 1
    finally:
        keep_in()
    other = shutil.copytree(place / "data", tmp_path / "elsewhere")
    config(place, cache=str(tmp_path / "own")).replace(path=str(other)).build()
    assert len(list((tmp_path / "own").glob("latents-*"))) == 2 and len(encoded) == 12
    with pytest.raises(UsageError, match="^/dev/null/x cannot be written .*--cache"):
        config(place, cache="/dev/null/x").build()


def test_too_little_space_is_found_before_anything_is_encoded(place, encoded, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(cache, "MARGIN", 1 << 60)
    with pytest.raises(UsageError, match=f"{place / 'data'} has .* are needed; make space, or give another .*--cache"):
        config(place).build()
    assert not encoded


READ_ONLY = """
from vidar.train.latents import LatentClipsConfig
for _ in range(2):
    made = LatentClipsConfig(path={data!r}, tokenizer={tokenizer!r}, clip_frames=3, batch=1).build()
print(len(made.names), made.codes.float().sum().item())
"""


@pytest.mark.skipif(subprocess.run(["unshare", "-rm", "true"]).returncode != 0, reason="may not mount")
def test_data_that_cannot_be_written_have_their_latents_in_the_user_s_folder(place, tmp_path):
    data = str(place / "data")
    script = READ_ONLY.format(data=data, tokenizer=str(place / "tokenizer"))
    words = f'mount --bind {data} {data} && mount -o remount,bind,ro {data} && exec "$0" -c "$1"'
    command = ["unshare", "-rm", "env", f"TORCH_HOME={tmp_path / 'torch'}", "sh", "-c", words, sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    want = config(place).build()
    assert done.stdout.split() == ["4", str(want.codes.float().sum().item())]
    assert done.stderr.count("cannot be written (Read-only file system); what is encoded is kept in") == 1
    assert len(list((tmp_path / "torch" / "vidar").glob("latents-*"))) == 1


def test_captions_are_kept_by_shard_and_mended(place, capsys):
    told = config(place, annotation=ShapeCaptionConfig()).build().told
    (file,) = (place / "data").glob("annotations-*")
    cut(file)
    assert config(place, annotation=ShapeCaptionConfig()).build().told == told and len(told) == 16
    assert f"{file}: damaged" in capsys.readouterr().err
    recorded(place / "data", 1, 300)
    assert len(config(place, annotation=ShapeCaptionConfig()).build().told) == 20


def test_equal_modules_are_saved_as_equal_bytes(tmp_path):
    for n in range(8):
        tokenizer(tmp_path / str(n), 0)
    assert len({(tmp_path / str(n) / "model.safetensors").read_bytes() for n in range(8)}) == 1
