"""Environments as people have them: older methods, odd results, failures, and sizes."""

import gymnasium
import numpy as np
import pytest
from gym_toy import Toy, picture
from gymnasium import spaces

from vidar.data.explore import ReplayPolicy
from vidar.data.gym import GymRecorder, frame_rate, trainable_size
from vidar.data.reader import data_info, episodes
from vidar.data.record import record
from vidar.types import UsageError, VidarError

WANTED = np.stack([picture(t) for t in range(5)])


class OldStep(Toy):
    def step(self, action):
        observation, reward, done, _, info = super().step(action)
        return observation, reward, done, info


class OldReset(Toy):
    def reset(self):
        self.t = int(self.np_random.integers(5))
        return self.observe(self.t)


class OldSeed(Toy):
    def seed(self, seed=None):
        self.start = seed

    def reset(self):
        self.t = self.start
        return self.observe(self.t)


class OldRender(Toy):
    def __init__(self, **given):
        super().__init__(**given)

    def render(self, mode="human"):
        return self.draw(self.t) if mode == "rgb_array" else None


class NoRenderMode(gymnasium.Env):
    observation_space, action_space = spaces.Box(0, 255, (40, 48, 3), np.uint8), spaces.Discrete(2)

    def __init__(self, size=3):
        self.t = 0

    def reset(self, *, seed=None, options=None):
        return picture(0), {}

    def step(self, action):
        self.t += 1
        return picture(self.t), 0.0, False, False, {}


class Picky(NoRenderMode):
    metadata = {"render_modes": ["human"]}

    def __init__(self, render_mode=None):
        super().__init__()
        assert render_mode in (None, "human")


class Returns(Toy):
    """change(step) is what `step` returns in the place of its five values."""

    def __init__(self, change, **given):
        super().__init__(render_mode="rgb_array", **given)
        self.change = change

    def step(self, action):
        return self.change(super().step(action))


class Raises(Toy):
    """Raises `error` in `method`, in the third episode and there after two steps."""

    def __init__(self, method, error, render_mode="rgb_array"):
        super().__init__(render_mode)
        self.method, self.error, self.episode = method, error, 0

    def reset(self, **given):
        self.episode += 1
        if self.method == "reset" and self.episode == 3:
            raise self.error
        return super().reset(**given)

    def step(self, action):
        if self.method == "step" and self.episode == 3 and self.t == 2:
            raise self.error
        return super().step(action)

    def render(self):
        if self.method == "render" and self.episode == 3 and self.t == 2:
            raise self.error
        return super().render()


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("kind", [Toy, OldStep, OldReset, OldRender, NoRenderMode, Picky])
def test_older_and_plainer_environments_are_taken(registered, kind, limit):
    """By id, within the wrappers of gymnasium.make."""
    env_id = registered(kind, max_episode_steps=limit)
    episode = GymRecorder(env_id, 40, 48, frames=5).episode(0)
    count = 5 if limit is None else 4
    start = int(np.random.default_rng(np.random.PCG64(0)).integers(5)) if kind is OldReset else 0
    wanted = np.stack([picture(start + t) for t in range(count)])
    np.testing.assert_array_equal(episode.frames, wanted)
    assert not episode.extras["ended"].any()  # a limit of time is no end


def test_older_environments_are_taken_as_objects():
    for env in (OldStep("rgb_array", length=3), OldReset(observe=picture), OldRender(render_mode="rgb_array")):
        assert len(GymRecorder(env, frames=5).episode(0).frames) == (4 if env.length else 5)
    ended = GymRecorder(OldStep("rgb_array", length=3)).episode(0).extras["ended"]
    assert ended.tolist() == [False, False, False, True]

    class OldLimit(OldStep):
        def step(self, action):
            return *super().step(action)[:2], True, {"TimeLimit.truncated": True}

    assert GymRecorder(OldLimit("rgb_array")).episode(0).extras["ended"].tolist() == [False, False]


def test_an_environment_without_a_seed_in_reset_is_seeded():
    first = [
        GymRecorder(OldReset(observe=picture), frames=2).episode(seed).frames[0, 0, 0, 0] for seed in (*range(8), 0)
    ]
    assert first[0] == first[-1] and len(set(first)) > 1
    assert GymRecorder(OldSeed(observe=picture), frames=2).episode(3).frames[0, 0, 0, 0] == picture(3)[0, 0, 0]


def value(place, made):
    return lambda result: (*result[:place], made(result[place]), *result[place + 1 :])


@pytest.mark.parametrize(
    "change, reward",
    [
        (value(1, lambda _: None), 0),
        (value(1, lambda _: np.float64(0.5)), 0.5),
        (value(1, lambda _: np.array([0.5])), 0.5),
        (value(1, lambda _: True), 1),
        (value(2, np.bool_), 0.5),
        (value(2, lambda done: np.array([done])), 0.5),
        (value(2, lambda done: done or None), 0.5),
        (value(4, lambda _: None), 0.5),
        (lambda result: list(result), 0.5),
    ],
)
def test_usual_results_of_step_are_taken(change, reward):
    episode = GymRecorder(Returns(change, length=4)).episode(0)
    np.testing.assert_array_equal(episode.frames, WANTED)
    assert episode.extras["rewards"].tolist() == [0, *[reward] * 4]
    assert episode.extras["ended"].tolist() == [False] * 4 + [True]


@pytest.mark.parametrize(
    "change, words",
    [
        (value(1, lambda _: float("nan")), "step returns the reward nan, expected one finite number"),
        (value(1, lambda _: [1.0, 2.0]), r"step returns the reward \[1.0, 2.0\], expected one finite number"),
        (value(1, lambda _: {"left": 1.0}), "step returns the reward {'left': 1.0}"),
        (value(1, lambda _: "much"), "step returns the reward much"),
        (value(2, lambda _: np.array([True, False])), "step raised ValueError: The truth value"),
        (lambda result: result[:3], r"step returns 3 value\(s\), expected \(observation, reward"),
        (lambda result: None, r"step returns 1 value\(s\)"),
        (lambda result: {"observation": 1}, r"step returns 1 value\(s\)"),
    ],
)
def test_other_results_of_step_are_one_line(change, words):
    with pytest.raises(VidarError, match=f"^gym:Returns: seed 7, step 1: {words}") as error:
        GymRecorder(Returns(change)).episode(7)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("error", [ValueError("bad\nnews"), ZeroDivisionError(), SystemExit(0), KeyError("x")])
@pytest.mark.parametrize("method", ["reset", "step", "render"])
def test_what_an_environment_raises_is_one_line_and_earlier_episodes_stay(tmp_path, method, error):
    step = {"reset": 0, "step": 3, "render": 2}[method]
    name = type(error).__name__
    where = f"^gym:Raises: seed 12, step {step}: {method} raised {name}: .*; the 2 episode\\(s\\) before are in "
    with pytest.raises(VidarError, match=where) as raised:
        record(Raises(method, error), None, tmp_path / "d", episodes=5, frames=6, seed=10)
    assert "\n" not in str(raised.value)
    assert [e.name for e in episodes(tmp_path / "d", "train")] == ["Raises-000000010", "Raises-000000011"]


def test_a_picture_that_grows_needs_a_size(tmp_path):
    grows = Toy("rgb_array", draw=lambda t: picture(t, 40 + t))
    with pytest.raises(VidarError, match="gym:Toy: seed 3, step 1: the picture is 41 x 48 .* 40 x 48; .*--height"):
        GymRecorder(grows, frames=3).episode(3)
    assert GymRecorder(grows, 32, 48, frames=3).episode(3).frames.shape == (3, 32, 48, 3)
    later = Toy("rgb_array", draw=lambda t: picture(t))
    recorder = GymRecorder(later, frames=3)
    recorder.episode(0)
    later.draw = lambda t: picture(t, 41)
    with pytest.raises(VidarError, match="seed 1, step 0: the picture is 41 x 48"):
        recorder.episode(1)
    sized = GymRecorder(grows, 32, 48, frames=4)
    assert record(sized, None, tmp_path / "d", episodes=2)["frames"] == 8
    assert record(sized, None, tmp_path / "d", episodes=1, frames=3, seed=9)["frames"] == 3


def test_a_picture_that_is_drawn_in_place_is_copied():
    buffer = np.zeros((40, 48, 3), np.uint8)

    def draw(t):
        buffer[:] = picture(t)
        return buffer

    for env in (Toy("rgb_array", draw=draw), Toy(observe=draw), Toy(observe=lambda t: np.moveaxis(draw(t), 2, 0))):
        np.testing.assert_array_equal(GymRecorder(env, frames=5).episode(0).frames, WANTED)

    class Scribbler:
        def start(self, spec, rng):
            self.row = np.zeros(1, np.float32)

        def __call__(self, view):
            view.frame[:] = 0
            self.row[:] = (self.row + 1) % 3
            return self.row

    episode = GymRecorder(Toy("rgb_array"), frames=5).episode(0, Scribbler())
    np.testing.assert_array_equal(episode.frames, WANTED)
    assert episode.actions[:, 0].tolist() == [0, 1, 2, 0, 1]


def test_short_and_endless_episodes(tmp_path):
    short = GymRecorder(Toy("rgb_array", length=1)).episode(0)
    assert len(short.frames) == 2 and short.extras["ended"].tolist() == [False, True]
    made = record(Toy("rgb_array"), None, tmp_path / "d", episodes=2, frames=7)
    assert (made["frames"], made["picture"], made["picture_size"], made["frame_rate"]) == (14, "render", [40, 48], 10)
    limited = gymnasium.wrappers.TimeLimit(Toy("rgb_array"), 3)
    assert GymRecorder(limited).episode(0).extras["ended"].tolist() == [False] * 4


@pytest.mark.parametrize(
    "metadata, fps",
    [
        ({"render_fps": 30}, 30),
        ({"render_fps": np.float32(12.5)}, 12.5),
        ({"video.frames_per_second": 50}, 50),
        ({"render_fps": None}, 10),
        ({"render_fps": 0}, 10),
        ({"render_fps": float("nan")}, 10),
        ({"render_fps": "fast"}, 10),
        ({}, 10),
        (None, 10),
    ],
)
def test_the_frame_rate_is_that_of_the_metadata(metadata, fps):
    env = Toy("rgb_array")
    env.metadata = metadata
    assert frame_rate(metadata) == fps == GymRecorder(env, frames=2).episode(0).fps
    assert GymRecorder(env, frames=2, fps=15).episode(0).fps == 15


@pytest.mark.parametrize(
    "native, fitted",
    [
        ((400, 600), (64, 96)),  # CartPole
        ((210, 160), (80, 64)),  # Atari
        ((500, 500), (80, 80)),  # Pendulum
        ((96, 96), (96, 96)),  # CarRacing
        ((480, 640), (64, 80)),
        ((600, 400), (96, 64)),
        ((84, 84), (80, 80)),
        ((64, 80), (64, 80)),
        ((32, 48), (32, 48)),
        ((30, 50), (32, 48)),
        ((60, 80), (48, 64)),
        ((7, 7), (16, 16)),
        ((1080, 1920), (64, 112)),
        ((100, 4000), (16, 384)),
    ],
)
def test_sizes_that_the_recipes_train_on(native, fitted):
    assert trainable_size(*native) == fitted


def test_an_environment_by_its_id_is_recorded_at_a_size_that_trains(tmp_path):
    pytest.importorskip("pygame")
    from vidar.configs.own import tokenizer_own, world_own

    made = record("CartPole-v1", None, tmp_path / "d", episodes=2, frames=8)
    assert made["picture_size"] == [400, 600] and made["frame_size"] == [64, 96] and made["frame_rate"] == 50
    info = data_info(tmp_path / "d")
    assert (info.height, info.width, info.fps) == (64, 96, 50)
    for recipe in (tokenizer_own, world_own):
        assert recipe(data=str(tmp_path / "d")).data.path == str(tmp_path / "d")


def test_record_takes_one_environment(tmp_path):
    vector = gymnasium.make_vec("CartPole-v1", num_envs=2)
    for wrong in (vector, 3, Toy):
        with pytest.raises(UsageError, match="record takes a config, the id of an environment or one gymn"):
            record(wrong, None, tmp_path / "d", episodes=1)
    assert not (tmp_path / "d").exists()


def test_a_long_name_is_shortened(tmp_path):
    class Environment(Toy):
        pass

    Environment.__name__ = "Long" * 40
    assert record(Environment("rgb_array"), None, tmp_path / "d", episodes=1, frames=2)["episodes"] == 1


def test_the_stored_actions_play_the_same_episode_again():
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    recorder = GymRecorder(env, 32, 48)
    episode = recorder.episode(4)
    again = recorder.episode(4, ReplayPolicy(episode.actions))
    np.testing.assert_array_equal(again.frames, episode.frames)
    np.testing.assert_array_equal(again.actions, episode.actions)
