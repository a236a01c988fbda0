"""The gymnasium recorder and `record`."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from vidar.data.explore import ReplayPolicy
from vidar.data.gym import GymRecorder
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.shapes_env import ShapesEnv
from vidar.data.synthetic import ShapesConfig
from vidar.types import UsageError, VidarError


def test_recording_the_environment_of_shapes_equals_the_world():
    config = ShapesConfig(height=24, width=40, frames=20)
    world = config.build().episode(5)
    e = GymRecorder(ShapesEnv(config)).episode(5)
    np.testing.assert_array_equal(e.frames, world.frames)
    np.testing.assert_array_equal(e.actions, world.actions)
    np.testing.assert_array_equal(e.extras["rewards"], world.extras["rewards"])
    assert e.fps == world.fps and e.spec.actions[0].size == 5
    again = GymRecorder(ShapesEnv(config)).episode(5, ReplayPolicy(world.actions))
    np.testing.assert_array_equal(again.frames, world.frames)


def test_resizing_is_a_mean_over_boxes():
    config = ShapesConfig(height=32, width=48)
    full, half = ShapesEnv(config), GymRecorder(ShapesEnv(config), height=16, width=24, frames=3)
    frame, _ = full.reset(seed=1)
    means = frame.reshape(16, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(half.episode(1).frames[0] - means).max() <= 1.01  # Pillow rounds after each axis
    with pytest.raises(UsageError, match="give both height and width"):
        GymRecorder(ShapesEnv(config), height=16)


def test_an_environment_without_pictures_says_how_to_mend_it():
    class Blind(gymnasium.Env):
        observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return 0, {}

    with pytest.raises(VidarError, match="render_mode='rgb_array'"):
        GymRecorder(Blind()).episode(0)


def test_record_writes_shards_that_read_back(tmp_path):
    config, seen = ShapesConfig(height=32, width=32), []
    summary = record(config, None, tmp_path / "d", episodes=3, frames=12, seed=4, progress=lambda *at: seen.append(at))
    assert (summary["episodes"], summary["frames"], seen) == (3, 36, [(1, 3), (2, 3), (3, 3)])
    world = config.replace(frames=12).build()
    stored = {e.name: e for e in episodes(tmp_path / "d", "train")}
    for seed in (4, 5, 6):
        want = world.episode(seed)
        got = stored[want.name]
        np.testing.assert_array_equal(got.actions, want.actions)
        np.testing.assert_array_equal(got.extras["state"], want.extras["state"])
        assert np.abs(got.frames.astype(int) - want.frames).mean() < 8 and got.caption == want.caption


def test_record_refuses_bad_arguments_before_writing(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        record(ShapesConfig(), None, tmp_path / "file", episodes=1)
    with pytest.raises(UsageError, match="is a file"):
        record(ShapesConfig(), None, tmp_path / "file" / "below", episodes=1)
    for bad in ({"episodes": 0}, {"episodes": 1, "frames": 1}, {"episodes": 1, "seed": -1}):
        with pytest.raises(UsageError, match="at least 1 episode"):
            record(ShapesConfig(), None, tmp_path / "new", **bad)
    with pytest.raises(UsageError, match="no environment"):
        record("NoSuchThing-v0", None, tmp_path / "new", episodes=1)
    assert not (tmp_path / "new").exists()


def test_an_end_of_the_game_is_marked_and_a_time_limit_is_not():
    """CartPole falls over when it is pushed one way for a while; the same pushes played again say when."""
    push = ReplayPolicy(np.ones((40, 1)))
    game, length = gymnasium.make("CartPole-v1"), 1
    game.reset(seed=3)
    while not game.step(1)[2]:
        length += 1
    pole = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    ended = GymRecorder(pole, 24, 36).episode(3, push).extras["ended"]
    assert ended.dtype == bool and 5 < length < 20
    assert ended.tolist() == [False] * length + [True]
    limited = gymnasium.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=5)
    assert GymRecorder(limited, 24, 36).episode(3, push).extras["ended"].tolist() == [False] * 6
    assert GymRecorder(pole, 24, 36, frames=length).episode(3, push).extras["ended"].tolist() == [False] * length
    both = gymnasium.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=length)  # over in the last step
    assert GymRecorder(both, 24, 36).episode(3, push).extras["ended"][-1]
    assert not GymRecorder(ShapesEnv(ShapesConfig(frames=6))).episode(0).extras["ended"].any()
