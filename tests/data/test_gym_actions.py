"""Action spaces as columns: every row is an action of the space, and the stored row is what the environment got."""

import gymnasium
import numpy as np
import pytest
from gym_toy import Toy, picture
from gymnasium import spaces

from vidar.data.explore import ReplayPolicy
from vidar.data.gym import GymRecorder
from vidar.data.gym_actions import action_columns, action_row
from vidar.types import VidarError

SPACES = [
    spaces.Discrete(4, start=-1),
    spaces.Discrete(1),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
    spaces.MultiDiscrete([2, 5]),
    spaces.MultiDiscrete([3, 3], start=[1, -1]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    spaces.Box(np.array([-2.0, 1.0], np.float32), np.array([0.5, 4.0], np.float32)),
    spaces.Box(-1, 1, (2, 2), np.float32),
    spaces.Box(-0.1, 0.1, (), np.float64),
    spaces.Box(-0.3, 0.7, (3,), np.float16),
    spaces.Box(0, 255, (2,), np.uint8),
    spaces.Box(-3, 9, (2,), np.int64),
    spaces.Box(np.array([0.0, 2.0], np.float32), np.array([1.0, 2.0], np.float32)),  # the second never moves
    spaces.Dict({"move": spaces.Discrete(3), "look": spaces.Box(-1, 1, (2,)), "keys": spaces.MultiBinary(2)}),
    spaces.Tuple([spaces.Discrete(3, start=5), spaces.Dict({"a": spaces.MultiDiscrete([2, 2], start=[1, 1])})]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_row_of_the_columns_is_an_action_of_the_space(space):
    spec, to_env = action_columns(space, "test")
    rng = np.random.default_rng(0)
    low, high = (np.array([getattr(a, end) for a in spec.actions], np.float32) for end in ("lowest", "highest"))
    whole = np.array([a.kind != "continuous" for a in spec.actions])
    rows = [low, high, spec.noop(), *(low + rng.random((20, spec.width)).astype(np.float32) * (high - low))]
    for row in rows:
        row = np.where(whole, np.rint(row), row).astype(np.float32)
        action = to_env(row)
        assert space.contains(action), action
        assert type(action) is type(space.sample())
        stored = action_row(space, action)
        spec.validate_actions(stored[None], "stored")
        step = 0.51 if "int" in str(space.dtype) else 1e-3
        assert np.abs(stored - row).max(initial=0) <= step
        again = to_env(stored)  # the stored row gives the same action again
        assert space.contains(again) and np.array_equal(action_row(space, again), stored)


def test_columns_say_what_they_are():
    spec, to_env = action_columns(SPACES[0], "test")
    assert spec.names == ("action",) and to_env(np.array([0.0])) == -1
    names = action_columns(SPACES[-2], "test")[0].names  # gymnasium sorts the keys
    assert set(names) == {"move", "look_0", "look_1", "keys_0", "keys_1"}
    assert action_columns(SPACES[-1], "test")[0].names == ("part_0", "part_1_a_0", "part_1_a_1")
    assert action_columns(SPACES[-3], "test")[0].names == ("axis_0",)
    assert action_columns(SPACES[-3], "test")[1](np.array([0.5])).tolist() == [0.5, 2]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(np.array([-1, -np.inf], np.float32), np.ones(2, np.float32)),
        spaces.Box(-(2**40), 2**40, (1,), np.int64),
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(3)),
        spaces.Graph(spaces.Discrete(3), None),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Text(5)}),
    ],
    ids=str,
)
def test_other_spaces_are_refused_in_one_line(space):
    with pytest.raises(VidarError, match="test: action space .* cannot be recorded; wrap it into") as error:
        action_columns(space, "test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_stored_rows_are_what_the_environment_got(space):
    env = Toy(observe=picture, action=space)
    episode = GymRecorder(env, frames=30).episode(3)
    got = np.stack([action_row(space, action) for action in env.taken])
    np.testing.assert_array_equal(episode.actions[1:], got)
    episode.spec.validate_actions(episode.actions[1:], "stored")


def test_rows_of_an_integer_box_are_whole_and_rows_outside_are_clipped():
    env = Toy(observe=picture, action=spaces.Box(-2, 5, (1,), np.int64))
    actions = GymRecorder(env, frames=900).episode(0).actions
    taken = np.stack(env.taken)
    np.testing.assert_array_equal(actions[1:], taken)
    assert set(taken[:, 0]) == set(range(-2, 6))

    class Loud:
        def start(self, spec, rng):
            pass

        def __call__(self, view):
            return np.array([7.0])

    env = Toy(observe=picture, action=spaces.Box(-1, 1, (1,)))
    assert (
        GymRecorder(env, frames=3).episode(0, Loud()).actions[1:].tolist() == [[1], [1]] == np.stack(env.taken).tolist()
    )
    with pytest.raises(
        VidarError, match="gym:Toy: seed 0, step 1: the policy: action 'action' row 0 is 7, legal is 0..2"
    ):
        GymRecorder(Toy(observe=picture), frames=3).episode(0, Loud())


def test_an_environment_that_changes_its_action_changes_no_row():
    class Halving(Toy):
        def step(self, action):
            result = super().step(action.copy())
            action *= 0
            return result

    env = Halving(observe=picture, action=spaces.Box(-1, 1, (2,)))
    rows = ReplayPolicy(np.full((4, 2), 0.75))
    assert (GymRecorder(env, frames=4).episode(0, rows).actions[1:] == 0.75).all() and (
        np.stack(env.taken) == 0.75
    ).all()


def test_wrappers_that_change_actions_are_outside():
    """The recorder gives the wrapped environment its action: that of the outermost action space is stored."""
    env = Toy(observe=picture, action=spaces.Box(-5, 5, (1,)))
    scaled = gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    actions = GymRecorder(scaled, frames=20).episode(0).actions
    assert np.abs(actions).max() <= 1
    np.testing.assert_allclose(np.stack(env.taken), 5 * actions[1:], rtol=1e-5)
