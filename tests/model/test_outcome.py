"""A world with a head of reward and end on disk; one without stays what it was."""

import json

import pytest
import torch

import vidar
from vidar.configs.shapes import world_shapes
from vidar.data.synthetic import SPEC
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.nn.outcome import OutcomeNetConfig
from vidar.types import UsageError, VidarError

HEAD = OutcomeNetConfig(spec=SPEC, rows=4, columns=4, channels=8, width=8, kept=2, hidden=8)


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    plain = world_shapes(preset="tiny").method.world.build()
    head = HEAD.build()
    torch.nn.init.normal_(head.out.weight)
    head.scale.fill_(1 / 3)  # not a bfloat16
    return VideoModel(plain.config, plain.tokenizer, plain.net, outcome=head)


def steps():
    torch.manual_seed(2)
    return torch.randn(5, 2, 16, 8), torch.tensor([[0.0], [1], [2], [3], [4]])


def test_round_trip(world, tmp_path):
    save(world, tmp_path)
    again = load(tmp_path, dtype=torch.bfloat16)
    assert again.outcome.config == HEAD and not again.outcome.training
    for mine, theirs in zip(world.outcomes(*steps()), again.outcomes(*steps())):
        assert torch.equal(mine, theirs) and mine.unique().numel() == 5
    reward, logit = world.outcome(*steps())
    assert torch.equal(world.outcomes(*steps())[0], reward) and torch.equal(
        world.outcomes(*steps())[1], logit.sigmoid()
    )


def test_a_world_without_one_is_written_as_before(world, tmp_path):
    plain = VideoModel(world.config, world.tokenizer, world.net)
    save(plain, tmp_path)
    there = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    parts = {f"{part}/{name}" for part in ("tokenizer", "transformer") for name in ("config.json", "model.safetensors")}
    assert there == {"world.json", "model_index.json"} | parts
    listed = {"tokenizer": ["vidar", "Autoencoder"], "transformer": ["vidar", "WorldNet"]}
    index = {"_class_name": "VideoModel", "_vidar_version": vidar.__version__, **listed}
    stored = json.loads((tmp_path / "model_index.json").read_text())
    assert len(stored.pop("_sha256")) == 64 and stored == index
    again = load(tmp_path)
    assert again.outcome is None and all(not part.any() for part in again.outcomes(*steps()))
    save(world, tmp_path)
    save(plain, tmp_path)  # over one with a head
    assert load(tmp_path).outcome is None


def test_what_does_not_fit_is_one_line(world, tmp_path):
    with pytest.raises(UsageError, match="latents 4 x 3 x 8 and actions move; world 'shapes' has 4 x 4 x 8 and move"):
        VideoModel(world.config, world.tokenizer, world.net, outcome=HEAD.replace(columns=3).build())
    save(world, tmp_path)
    index = tmp_path / "model_index.json"
    (tmp_path / "outcome/config.json").unlink()
    with pytest.raises(VidarError, match="config.json: missing"):
        load(tmp_path)
    listed, left_out = json.loads(index.read_text()), ("outcome", "_sha256")
    index.write_text(json.dumps({name: part for name, part in listed.items() if name not in left_out}))
    assert load(tmp_path).outcome is None  # the index says what belongs to a world
    index.write_text("[1")
    with pytest.raises(VidarError, match="model_index.json: damaged"):
        load(tmp_path)
