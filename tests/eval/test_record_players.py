"""The recorder of players: a game with buttons for any angle, played within its limits."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vidar.data.mixture import MixturePolicyConfig

SCRIPT = Path(__file__).parents[2] / "scripts" / "record_players.py"
KEYS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("record_players", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_game_has_buttons_for_any_angle(script):
    pytest.importorskip("vizdoom")
    game = script.AnySpeedConfig(frames=80).build()
    try:
        assert game.spec.names == (*KEYS, *script.ANY)
        policy = MixturePolicyConfig(explored=(1, 1), rest=0, hold=0, back=0, walk=0, tap=0, mash=0, random=0).build()
        one = game.episode(1, policy)
        assert np.array_equal(one.frames, game.episode(1, policy).frames)
        speeds, limits = one.actions[:, len(KEYS) :], np.array(list(script.ANY.values()), np.float32)
        assert (np.abs(speeds) <= limits).all() and (np.abs(speeds).max(0) > 0.5 * limits).all()
        assert one.frames.shape[1:] == (64, 80, 3) and one.extras["pose"].shape == (len(one.frames), 4)
    finally:
        game.close()
    assert not Path(game.folder.name).exists()
