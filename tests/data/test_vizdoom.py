"""The ViZDoom recorder: determinism, alignment, geometry of the picture, errors."""

import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vidar.data.explore import ReplayPolicy
from vidar.data.vizdoom import VizdoomConfig, action_spec, screen_and_box
from vidar.types import UsageError

CONFIG = VizdoomConfig(frames=40)


def digest(episode):
    parts = [episode.frames, episode.actions, *(episode.extras[k] for k in ("depth", "labels", "pose", "rewards"))]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


PROCESS = """
import hashlib
import os
import shutil
from vidar.data.vizdoom import VizdoomConfig
with VizdoomConfig(frames=40).build() as game:
    e = game.episode(11)
parts = [e.frames, e.actions, *(e.extras[k] for k in ("depth", "labels", "pose", "rewards"))]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


@pytest.fixture(scope="module")
def game():
    with CONFIG.build() as running:
        yield running


def test_a_seed_gives_the_same_episode_whatever_was_played_before_and_in_another_process(game):
    game.episode(5)
    first = game.episode(11)
    game.episode(7)
    assert digest(first) == digest(game.episode(11))
    there = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True).stdout.strip()
    assert there == digest(first)


def test_seeds_start_in_different_places(game):
    table = np.zeros((2, 5))
    starts = {tuple(game.episode(s, ReplayPolicy(table)).extras["pose"][0, :2].round(-1)) for s in range(12)}
    assert len(starts) >= 6


def test_an_episode_has_the_documented_arrays(game):
    e = game.episode(0)
    assert e.frames.shape == (40, 64, 80, 3) and e.frames.dtype == np.uint8 and e.fps == 17.5
    assert e.actions.shape == (40, 5) and not e.actions[0].any()
    assert e.extras["depth"].shape == e.extras["labels"].shape == (40, 64, 80)
    assert e.extras["pose"].shape == (40, 4) and e.extras["rewards"].shape == (40,)
    assert e.spec.names == ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")
    e.spec.validate_actions(e.actions, e.name)
    assert 15 < e.frames.mean() < 200 and e.frames.std() > 10
    assert len(np.unique(e.extras["depth"])) > 5


@pytest.mark.parametrize("button, sign", [("TURN_LEFT", 1), ("TURN_RIGHT", -1)])
def test_action_t_turns_the_view_between_frame_t_minus_1_and_t(game, button, sign):
    table = np.zeros((20, 5), np.float32)
    table[12:, game.spec.names.index(button)] = 1
    e = game.episode(3, ReplayPolicy(table))
    turn = (np.diff(e.extras["pose"][:20, 3]) + 180) % 360 - 180  # turn[t - 1] happens between frame t-1 and t
    np.testing.assert_array_equal(turn[:11], 0)
    assert (sign * turn[11:] > 1).all()
    assert (e.frames[10] == e.frames[11]).mean() > 0.9 > (e.frames[11] == e.frames[12]).mean()
    np.testing.assert_array_equal(e.actions[:20], table)


def test_replaying_recorded_actions_reproduces_the_recording(game):
    e = game.episode(21)
    assert digest(game.episode(21, ReplayPolicy(e.actions))) == digest(e)


def test_exploration_travels(game):
    walks = [game.episode(seed).extras["pose"][:, :2] for seed in range(30, 36)]
    travelled = [np.linalg.norm(np.diff(walk, axis=0), axis=1).sum() for walk in walks]
    assert np.mean(travelled) > 80  # map units in 39 steps


def test_pixels_stay_square():
    (w, h), (left, top, right, bottom) = screen_and_box(64, 80)
    assert (w, h) == (256, 192) and (right - left, bottom - top) == (240, 192) and left == 8 and top == 0
    for height, width in [(48, 64), (90, 160), (120, 90), (600, 800)]:
        (w, h), (left, top, right, bottom) = screen_and_box(height, width)
        assert abs((right - left) / width - (bottom - top) / height) < 0.02
        assert left >= 0 and top >= 0 and right <= w and bottom <= h


def test_buttons_become_columns():
    spec = action_spec(["ATTACK", "TURN_LEFT_RIGHT_DELTA"])
    assert [a.kind for a in spec.actions] == ["binary", "continuous"] and spec.actions[0].keys == (" ",)


def test_a_bad_scenario_names_near_matches():
    with pytest.raises(UsageError, match="no scenario 'my_way_hom'; did you mean my_way_home") as error:
        VizdoomConfig(scenario="my_way_hom").build()
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no such scenario file"):
        VizdoomConfig(scenario="nowhere/x.cfg").build()


def replayed(game, seed, count, skip):
    """Rewards of `count` actions at rest, the engine driven by hand, and whether its own clock ended the game."""
    game.game.set_seed(seed)
    game.game.new_episode()
    rewards = [game.game.make_action([0.0] * game.spec.width, skip) for _ in range(count)]
    assert game.game.is_episode_finished()
    return rewards, game.game.is_player_dead()


@pytest.mark.parametrize("scenario, skip, dies", [("health_gathering", 30, True), ("basic", 10, False)])
def test_a_death_is_an_end_and_a_time_limit_is_not(scenario, skip, dies):
    with VizdoomConfig(scenario=scenario, height=24, width=32, frame_skip=skip).build() as game:
        rest = ReplayPolicy(np.zeros((2, game.spec.width)))
        e = game.episode(3, rest)
        rewards, dead = replayed(game, 3, len(e.frames), skip)  # as many actions: the last one has no frame
        assert dead == dies and 5 < len(e.frames) < 60
        assert e.extras["ended"].tolist() == [False] * (len(e.frames) - 1) + [dies]
        np.testing.assert_array_equal(e.extras["rewards"][1:-1], rewards[:-2])
        assert e.extras["rewards"][-1] == rewards[-2] + rewards[-1] != rewards[-2]  # nothing is lost
        game.config = game.config.replace(frames=4)
        assert not game.episode(3, rest).extras["ended"].any()


def test_the_working_directory_need_not_be_writable(monkeypatch):
    monkeypatch.chdir("/proc")  # nobody can write here; the engine would end with a segmentation fault
    with CONFIG.replace(frames=3).build() as game:
        assert os.getcwd() == "/proc" and len(game.episode(0).frames) == 3


def test_nothing_is_left_in_the_working_directory_and_a_scenario_may_be_relative(tmp_path, monkeypatch):
    import vizdoom

    for suffix in (".cfg", ".wad"):
        shutil.copy(os.path.join(vizdoom.scenarios_path, f"basic{suffix}"), tmp_path)
    monkeypatch.chdir(tmp_path)
    with CONFIG.replace(scenario="basic.cfg", frames=3).build() as game:
        assert game.name == "basic" and len(game.episode(0).frames) == 3
    assert sorted(os.listdir(tmp_path)) == ["basic.cfg", "basic.wad"]
