"""Which recorded episodes are taken, how, and what is refused before a frame is decoded."""

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.configs.catalog import find, find_world
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.data.vizdoom import VizdoomConfig
from vidar.eval import held_out as module
from vidar.eval.held_out import game_config, recorded
from vidar.eval.protocol import WORLD
from vidar.types import VidarError

CONTEXT = 4
WANT = CONTEXT + 16
PROTOCOL = WORLD.replace(episodes=3, frames=16)


@pytest.fixture(scope="module")
def config():
    return find_world(find("world_shapes")(preset="tiny")).replace(context=CONTEXT)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Lengths 19, 24, 20, 12, 22 and 20."""
    folder = tmp_path_factory.mktemp("shards")
    for seed, frames in enumerate((19, 24, 20, 12, 22, 20)):
        record(ShapesConfig(), None, folder, episodes=1, frames=frames, seed=seed, split="heldout")
    return folder


def test_the_first_episodes_that_are_long_enough(shards, config):
    every = list(episodes(shards, "heldout", ()))
    assert [len(e.frames) for e in every] == [19, 24, 20, 12, 22, 20]
    seen = []
    taken = recorded(shards, "heldout", config, PROTOCOL).take(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for got, wanted in zip(taken.episodes, (every[1], every[2], every[4]), strict=True):
        assert got.name == wanted.name and len(got.actions) == len(got.frames) == WANT
        assert np.array_equal(got.frames, wanted.frames[:WANT])
        assert np.array_equal(got.actions, wanted.actions[:WANT])
    assert taken.facts == {"data": str(shards), "split": "heldout", "short_episodes_left_out": 2}


def test_all_of_them_where_there_are_fewer(shards, config):
    assert len(recorded(shards, "heldout", config, PROTOCOL.replace(episodes=64)).found) == 4


def test_poses_come_along(tmp_path):
    pytest.importorskip("vizdoom")
    record(VizdoomConfig(), None, tmp_path, episodes=2, frames=22, seed=1_000_000, split="heldout")
    config = find_world(find("world_doom")(preset="tiny")).replace(context=CONTEXT)
    taken = recorded(tmp_path, "heldout", config, PROTOCOL).take()
    for got, whole in zip(taken.episodes, episodes(tmp_path, "heldout"), strict=True):
        assert list(got.extras) == ["pose"]
        assert np.array_equal(got.extras["pose"], whole.extras["pose"][:WANT])


def test_what_does_not_fit_is_refused_in_one_line_before_a_frame_is_decoded(shards, config, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(module, "read_sample", refuse)
    move = config.actions.actions[0]
    other = ActionSpec(actions=(Action(name="jump"),))
    narrow = ActionSpec(actions=(move.replace(size=4, keys=()),))
    for change, message in (
        ({"height": 64}, "frames are 32 x 32, world 'shapes' is 64 x 32"),
        ({"fps": 20.0}, "10 frames/s, world 'shapes' runs at 20"),
        ({"actions": other}, "has the actions move, world 'shapes' has jump"),
        ({"actions": narrow}, "action 'move' has another kind or range"),
        (
            {"context": 8},
            r"1 of 6 episodes with the 24 frames needed \(8 of context, 16 to dream\); the longest has 24",
        ),
    ):
        with pytest.raises(VidarError, match=message) as caught:
            recorded(shards, "heldout", config.replace(**change), PROTOCOL)
        assert "\n" not in str(caught.value)
    with pytest.raises(VidarError, match="no split 'held'; available: heldout"):
        recorded(shards, "held", config, PROTOCOL)
    renamed = ActionSpec(actions=(move.replace(keys=()),))  # keys are a matter of the player
    assert recorded(shards, "heldout", config.replace(actions=renamed), PROTOCOL).short == 2


def test_the_game_has_the_size_rate_and_length_of_world_and_protocol(config):
    game = game_config(config.replace(fps=17.5), PROTOCOL)
    assert (game.height, game.width, game.fps, game.frames) == (32, 32, 17.5, WANT)
    assert game.scenario == "my_way_home"
