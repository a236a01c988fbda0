"""`vidar generate --schedule`: frames in flight by name, and refusals before a model is built."""

import json

import numpy as np
import pytest
from PIL import Image

from vidar.commands.schedule import read_schedule
from vidar.config import from_dict
from vidar.configs.nfd import world_nfd
from vidar.model.load import save
from vidar.model.schedules import AsynchronousConfig, OneByOneConfig, PyramidConfig, RollingConfig
from vidar.types import UsageError


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("one", OneByOneConfig()),
        ("rolling", RollingConfig()),
        ("pyramid:delay=1.5", PyramidConfig(delay=1.5)),
        ("asynchronous:ar_step=2,window=3", AsynchronousConfig(ar_step=2, window=3)),
    ],
)
def test_names_are_configs(text, config):
    assert read_schedule(text) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pyramids", "--schedule 'pyramids' is unknown; valid: one, chunks, pyramid"),
        ("pyramid:2", "'2' is not field=value, as in pyramid:delay=2"),
        ("pyramid:delays=2", "PyramidConfig has no 'delays'; did you mean delay?"),
        ("chunks:length=0", "ChunksConfig: length: .* greater than or equal to 1"),
    ],
)
def test_what_is_no_schedule_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_schedule(text)


def test_a_rolling_clip_says_how_it_was_made(run, tmp_path, nfd):
    model, start = nfd
    words = ("generate", model, "--context", start, "--frames", 5, "--steps", 2, "--schedule", "rolling")
    assert run(*words, "--out", tmp_path / "x.mp4")[0] == 0
    side = json.loads((tmp_path / "x.json").read_text())
    world = from_dict(side["world"])
    assert side["frames"] == 5 and isinstance(world.schedule, RollingConfig)
    assert (world.order.in_flight, world.order.forward) == (2, True)
    code, _, error = run(*words, "--renew", 2, "--out", tmp_path / "y.mp4")
    assert code == 2 and "leave --renew out" in error and not (tmp_path / "y.mp4").exists()


@pytest.fixture
def nfd(tmp_path):
    """A tiny NFD with a window of 4, and a picture of its size."""
    config = world_nfd(preset="tiny").method.world
    world = config.replace(order=config.order.replace(window=4)).build()
    save(world, tmp_path / "nfd")
    picture = np.zeros((config.height, config.width, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "start.png")
    return tmp_path / "nfd", tmp_path / "start.png"


def test_a_world_with_a_hint_has_one_frame_in_flight(run, model, clip, tmp_path):
    words = ("generate", model, "--context", clip, "--frames", 2, "--schedule", "pyramid", "--out", tmp_path / "x.mp4")
    code, _, error = run(*words)
    assert code == 2 and "objective.hint" in error and not (tmp_path / "x.mp4").exists()
