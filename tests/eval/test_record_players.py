"""The recorder of players: who takes turns is a function of the seed, and every kind of play is there."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vidar.data.explore import View
from vidar.data.vizdoom import action_spec
from vidar.rng import Rng

SCRIPT = Path(__file__).parents[2] / "scripts" / "record_players.py"
KEYS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("record_players", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(script, seed, frames=350):
    """The rows of a game whose frames show nothing."""
    policy, spec = script.TakingTurns(17.5), action_spec([*KEYS, *script.ANY])
    policy.start(spec, Rng(seed))
    rows = np.stack([policy(View(np.zeros((8, 8, 3), np.uint8))) for _ in range(frames)])
    return spec.validate_actions(rows, "played")


def test_a_game_is_a_function_of_its_seed(script):
    assert np.array_equal(table(script, 3), table(script, 3))
    assert not np.array_equal(table(script, 3), table(script, 4))


def test_every_kind_of_play_is_there(script):
    rows = np.concatenate([table(script, seed) for seed in range(12)])
    keys, speeds = rows[:, : len(KEYS)], rows[:, len(KEYS) :]
    limits = np.array(list(script.ANY.values()))
    assert (np.abs(speeds) <= limits).all() and (np.abs(speeds).max(0) > 0.9 * limits).all()
    assert (speeds.min(0) < 0).all() and (speeds.max(0) > 0).all()  # backward too, which no key does
    gliding = speeds.any(1)
    assert 0.1 < gliding.mean() < 0.4 and (~rows.any(1)).mean() > 0.05  # and rests
    assert not keys[gliding][:, [0, 1, 3, 4]].any()  # any speed comes alone, or with forward
    assert (keys[~gliding].sum(1) >= 2).mean() > 0.05  # two keys at once
    changes = np.abs(np.diff(keys, axis=0)).any(1)
    assert 0.1 < changes.mean() < 0.6


def test_the_game_has_buttons_for_any_angle(script):
    pytest.importorskip("vizdoom")
    game = script.AnySpeedConfig(frames=80).build()
    try:
        assert game.spec.names == (*KEYS, *script.ANY)
        one = game.episode(1, script.TakingTurns(game.fps))
        assert np.array_equal(one.frames, game.episode(1, script.TakingTurns(game.fps)).frames)
        assert one.frames.shape[1:] == (64, 80, 3) and one.extras["pose"].shape == (len(one.frames), 4)
    finally:
        game.close()
    assert not Path(game.folder.name).exists()
