"""Recipes for own data take size, rate and actions from it, and refuse what cannot be cut into sites at once."""

import pytest

from vidar.configs.own import tokenizer_own, world_own
from vidar.data.record import record
from vidar.data.synthetic import SPEC, ShapesConfig
from vidar.types import UsageError


def test_a_world_of_the_data(tmp_path):
    record(ShapesConfig(frames=20, height=32, width=48), None, tmp_path, episodes=1)
    config = world_own(preset="tiny", data=str(tmp_path))
    world = config.method.world
    assert (world.height, world.width, world.fps, world.actions) == (32, 48, 10.0, SPEC)
    assert world.sites == (2, 3) and config.method.build().layout.num_slots == 2 * config.method.clip_frames * 6
    assert tokenizer_own(preset="tiny", data=str(tmp_path)).method.tokenizer == world.tokenizer


def test_sizes_that_do_not_divide_are_refused_before_the_tokenizer_is_trained(tmp_path):
    record(ShapesConfig(frames=4, height=32, width=40), None, tmp_path, episodes=1)
    for recipe in (tokenizer_own, world_own):
        with pytest.raises(UsageError, match="32 x 40 pixels, not multiples of 16; .* --height 32 --width 32"):
            recipe(data=str(tmp_path))
