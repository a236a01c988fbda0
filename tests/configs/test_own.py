"""Recipes for own data take size, rate and actions from it, and refuse what cannot be cut into sites at once."""

import numpy as np
import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.check import check_training
from vidar.configs.own import tokenizer_own, world_own
from vidar.data.episode import Episode
from vidar.data.record import record
from vidar.data.shards import ShardWriter
from vidar.data.synthetic import SPEC, ShapesConfig
from vidar.model.load import load
from vidar.nn.pretrained import save_component
from vidar.train.fit import fit
from vidar.types import UsageError, VidarError


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_world_of_the_data(tmp_path):
    record(ShapesConfig(frames=20, height=32, width=48), None, tmp_path, episodes=1)
    config = world_own(preset="tiny", data=str(tmp_path))
    world = config.method.world
    assert (world.height, world.width, world.fps, world.actions) == (32, 48, 10.0, SPEC)
    assert world.sites == (2, 3) and config.method.build().layout.num_slots == 2 * config.method.clip_frames * 6
    assert tokenizer_own(preset="tiny", data=str(tmp_path)).method.tokenizer == world.tokenizer


def recorded(folder, captions, spec):
    """A data set with one episode for each caption."""
    draws = np.random.default_rng(0)
    with ShardWriter(folder, "train", spec) as writer:
        for number, text in enumerate(captions):
            frames = draws.integers(0, 255, (12, 32, 48, 3), dtype=np.uint8)
            actions = np.zeros((12, spec.width), np.float32)
            writer.write(Episode(frames, actions, 10.0, spec, f"e{number}", "test", caption=text))


def captioned(folder, spec, *texts):
    """The run of a world that reads captions, and the same without."""
    recorded(folder / "data", texts, spec)
    arguments = {"preset": "tiny", "data": str(folder / "data"), "tokenizer": str(folder / "tokenizer")}
    config = world_own(**arguments, captions=True)
    torch.manual_seed(0)
    save_component(config.method.world.tokenizer.build(), config.method.world.tokenizer, folder / "tokenizer")
    return config, world_own(**arguments)


@pytest.mark.parametrize("width", [0, 1])
def test_a_world_that_reads_captions(tmp_path, width, one_thread):
    """It trains on captioned videos, with and without actions, and its prompt counts."""
    config, plain = captioned(tmp_path, ActionSpec(actions=(Action(name="left"),) * width), "red", "blue")
    world = config.method.world
    assert world.accepts == (*plain.method.world.accepts, "prompt")
    assert world.replace(net=plain.method.world.net) == plain.method.world
    config = config.replace(optim=config.optim.replace(steps=3, warmup_steps=1, lr=0.05), minutes=None, compile=False)
    model = load(fit(check_training(config), tmp_path / "run", device="cpu").model)
    dreams = {prompt: model.generate(num_frames=3, seed=1, prompt=prompt) for prompt in ("red", "blue", None)}
    assert len({made.frames.tobytes() for made in dreams.values()}) == 3


def test_recordings_without_captions_are_refused_by_name(tmp_path):
    config, _ = captioned(tmp_path, ActionSpec(), "")
    with pytest.raises(VidarError, match=r"e0: has no caption; convert its video with a NAME\.txt or a metadata\.csv"):
        config.data.build()


def test_sizes_that_do_not_divide_are_refused_before_the_tokenizer_is_trained(tmp_path):
    record(ShapesConfig(frames=4, height=32, width=40), None, tmp_path, episodes=1)
    for recipe in (tokenizer_own, world_own):
        with pytest.raises(UsageError, match="32 x 40 pixels, not multiples of 16; .* --height 32 --width 32"):
            recipe(data=str(tmp_path))
