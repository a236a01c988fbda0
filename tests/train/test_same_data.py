"""A run goes on only with the data that it was trained on."""

import json
import shutil

import pytest

import vidar
from vidar.config import Config, to_dict
from vidar.data.index import load_index
from vidar.data.loader import ClipsConfig
from vidar.data.synthetic import ShapesConfig
from vidar.train import same_data
from vidar.train.checkpoint import MARKER
from vidar.train.config import TrainConfig
from vidar.train.fit import fit
from vidar.train.latents import LatentClipsConfig
from vidar.train.optim import OptimConfig
from vidar.types import UsageError, VidarError


class Never(Config):
    def build(self):
        raise AssertionError("built before the checks")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed in (0, 100):
        vidar.record(ShapesConfig(frames=4), None, folder, episodes=1, seed=seed)
    vidar.record(ShapesConfig(frames=4), None, folder, episodes=1, seed=200, split="test")
    return folder


@pytest.fixture
def place(original, tmp_path):
    return shutil.copytree(original, tmp_path / original.name)


def resume(place, out):
    """Resume a run, whose checkpoint exists as far as its config is concerned."""
    config = TrainConfig(
        name="run",
        method=Never(),
        data=ClipsConfig(path=str(place), clip_frames=2, batch=1),
        optim=OptimConfig(lr=0.1, steps=10),
        check_memory=False,
    )
    folder = out / "checkpoints" / "step-00000003"
    if not folder.exists():
        folder.mkdir(parents=True)
        text = json.dumps({"config": to_dict(config)})
        (folder / "state.json").write_text(text)
        (folder / MARKER).write_text(json.dumps({"state.json": len(text)}))
        same_data.store(out, config.data)
    fit(config, out, resume="auto", device="cpu")


def shards(place):
    return [place / shard.name for shard in load_index(place).shards]


def test_the_same_data_pass_and_so_do_other_splits(place, tmp_path):
    for seed in (300, 301):
        with pytest.raises(AssertionError, match="built before the checks"):
            resume(place, tmp_path / "run")
        vidar.record(ShapesConfig(frames=4), None, place, episodes=1, seed=seed, split="test")


def refused(place, out, line):
    with pytest.raises(UsageError, match=line) as error:
        resume(place, out)
    said = str(error.value)
    assert "\n" not in said and f"start another run with --out, or remove {out / 'data.json'}" in said


def test_added_changed_and_missing_shards_are_named(place, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(AssertionError):
        resume(place, out)
    vidar.record(ShapesConfig(frames=4), None, place, episodes=1, seed=400)
    refused(place, out, f"^{shards(place)[-1]}: was added since this run began")
    shutil.rmtree(place)
    vidar.record(ShapesConfig(frames=4), None, place, episodes=2, seed=7)
    refused(place, out, f"^{shards(place)[0]}: has changed since this run began \\(2 files differ\\);")
    shutil.rmtree(place)
    vidar.record(ShapesConfig(frames=4), None, place, episodes=1)
    refused(place, out, "000001.tar: is gone since this run began;")
    (out / "data.json").unlink()  # the choice that the line offers
    with pytest.raises(AssertionError):
        resume(place, out)


def test_weights_that_encode_the_data_belong_to_it(place, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    weights = tmp_path / "tokenizer" / "model.safetensors"
    weights.write_bytes(b"a")
    data = LatentClipsConfig(path=str(place), tokenizer=str(tmp_path / "tokenizer"), clip_frames=2, batch=1)
    same_data.store(tmp_path, data)
    same_data.check(tmp_path, data)
    weights.write_bytes(b"b")
    with pytest.raises(UsageError, match=f"^{weights}: has changed since this run began"):
        same_data.check(tmp_path, data)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100000])
def test_damaged_hashes_are_one_line(place, tmp_path, text):
    with pytest.raises(AssertionError):
        resume(place, tmp_path)
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(VidarError, match="data.json: damaged; remove it to resume without a check of the data"):
        resume(place, tmp_path)
