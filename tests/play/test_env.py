"""The world as an environment: gymnasium's own checks, the three ways of going on after an end, equal bits."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import vidar
from vidar.data.episode import Episode
from vidar.data.shards import ShardWriter
from vidar.types import UsageError, VidarError

ID = "Vidar/World-v0"


@pytest.fixture(scope="module")
def starts(world, tmp_path_factory):
    """Shards of three short episodes and one that is too short."""
    folder, spec = tmp_path_factory.mktemp("starts"), world.config.actions
    rng = np.random.default_rng(0)
    with ShardWriter(folder, "train", spec, lossless=True) as writer:
        for number, length in enumerate((6, 8, 3, 5)):
            frames = rng.integers(0, 255, (length, 64, 80, 3), dtype=np.uint8)
            actions = rng.integers(0, 2, (length, 5)).astype(np.float32)
            writer.write(Episode(frames, actions, world.config.fps, spec, f"episode-{number}", "test"))
    return folder


def keys(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2, (*shape, 5)).astype(np.int8)


def test_registered_and_passes_the_checks_of_gymnasium(world, starts):
    assert ID in gymnasium.registry and vidar.__version__
    env = gymnasium.make(ID, model=world, starts=starts, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=False)
    assert env.metadata["render_fps"] == world.config.fps
    assert isinstance(gymnasium.make_vec(ID, num_envs=2, model=world, starts=starts).action_space.sample(), np.ndarray)


def test_the_same_seed_and_keys_give_the_same_dream(world, starts):
    env = gymnasium.make(ID, model=world, starts=starts)
    runs = []
    for seed in (3, 3, 4):
        first, info = env.reset(seed=seed)
        runs.append([first, *(env.step(key)[0] for key in keys(0, 5))])
        assert info == {"seed": seed, "frame": 0}
    assert all(map(np.array_equal, runs[0], runs[1])) and not np.array_equal(runs[0][-1], runs[2][-1])
    assert not np.array_equal(runs[0][1], runs[0][2])


def test_eight_worlds_are_bit_equal_to_single_ones_of_that_capacity(world, starts):
    count, pressed = 8, keys(1, 100, 8)
    vector = gymnasium.make_vec(ID, num_envs=count, model=world, starts=starts)
    seen = [vector.reset(seed=50)[0], *(vector.step(row)[0] for row in pressed)]
    for i in (0, 5):
        one = gymnasium.make(ID, model=world, starts=starts, capacity=count).unwrapped
        alone = [one.reset(seed=50 + i)[0], *(one.step(row[i])[0] for row in pressed)]
        assert all(np.array_equal(a[i], b) for a, b in zip(seen, alone))
        small = gymnasium.make(ID, model=world, starts=starts).unwrapped  # another capacity: rounding only
        small.reset(seed=50 + i)
        assert np.abs(small.step(pressed[0, i])[0].astype(int) - seen[1][i]).max() <= 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_three_ways_after_an_end(world, starts, mode):
    env = gymnasium.make_vec(ID, num_envs=2, model=world, starts=starts, horizon=3, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is mode
    env.reset(seed=[7, 8])
    pressed = keys(2, 6, 2)
    for t in range(2):
        _, reward, ended, cut, _ = env.step(pressed[t])
        assert not reward.any() and not ended.any() and not cut.any()
    frames, _, ended, cut, info = env.step(pressed[2])
    assert cut.all() and not ended.any()
    if mode == AutoresetMode.SAME_STEP:
        assert info["_final_obs"].all() and info["final_info"]["frame"].tolist() == [3, 3]
        assert info["final_info"]["seed"].tolist() == [7, 8] and info["frame"].tolist() == [0, 0]
        assert not np.array_equal(info["final_obs"][0], frames[0])
        assert env.step(pressed[3])[4]["frame"].tolist() == [1, 1]
    elif mode == AutoresetMode.NEXT_STEP:
        assert info["frame"].tolist() == [3, 3] and "final_obs" not in info
        again, reward, ended, cut, info = env.step(pressed[3])
        other = gymnasium.make_vec(ID, num_envs=2, model=world, starts=starts)
        assert info["frame"].tolist() == [0, 0] and not reward.any() and not cut.any()
        assert np.array_equal(other.reset(seed=info["seed"].tolist())[0], again)  # the action was ignored
    else:
        with pytest.raises(UsageError, match="call reset"):
            env.step(pressed[3])
        before = env.reset(seed=9, options={"reset_mask": np.array([True, False])})[1]
        assert before["frame"].tolist() == [0, 3] and before["seed"].tolist() == [9, 8]
        with pytest.raises(UsageError, match="call reset"):
            env.step(pressed[3])
        env.reset(options={"reset_mask": np.array([False, True])})
        assert env.step(pressed[3])[4]["frame"].tolist() == [1, 1]


def test_a_start_is_a_context_or_an_episode(world, starts):
    env = gymnasium.make(ID, model=world, starts=starts).unwrapped
    clip, known = keys(5, 6)[..., :1].repeat(5, 1), keys(6, 6)
    frames = np.random.default_rng(3).integers(0, 255, (6, 64, 80, 3), dtype=np.uint8)
    first = env.reset(seed=1, options={"context": frames, "actions": known})[0]
    assert np.array_equal(first, world.decode(world.encode(torch.from_numpy(frames[None, -4:])))[0][0, -1].numpy())
    after = env.step(keys(0, 1)[0])[0]
    env.reset(seed=1, options={"context": frames, "actions": clip})
    assert not np.array_equal(after, env.step(keys(0, 1)[0])[0])  # the actions of the context count
    env.reset(seed=1, options={"episode": "episode-1"})
    assert set(env.rows.starts) == {"episode-0", "episode-1", "episode-3"}


def test_bad_arguments_are_one_line(world, starts, tmp_path):
    env = gymnasium.make(ID, model=world, starts=starts).unwrapped
    frames = np.zeros((4, 64, 80, 3), np.uint8)
    for options, words in (
        ({"contxt": frames}, "unknown option contxt; valid: context, actions"),
        ({"prompt": "a castle"}, "takes actions, and no prompt"),
        ({"episode": "nowhere"}, "no episode 'nowhere' among the starts; one of: episode-0"),
        ({"context": frames, "actions": keys(0, 3)}, "3 rows of actions for 4 frames"),
        ({"reset_mask": [True, False]}, r"reset_mask has shape \[2\]"),
    ):
        with pytest.raises(UsageError, match=words):
            env.reset(options=options)
    with pytest.raises(VidarError, match="the context is 8x8, this model is 80x64"):
        env.reset(options={"context": np.zeros((4, 8, 8, 3), np.uint8)})
    with pytest.raises(UsageError, match="call reset"):
        gymnasium.make(ID, model=world, starts=starts).unwrapped.step(keys(0, 1)[0])
    env.reset(seed=0)
    with pytest.raises(VidarError, match="action 'TURN_LEFT' row 0 is 2, legal is 0..1 whole"):
        env.step(np.array([2, 0, 0, 0, 0]))
    with pytest.raises(UsageError, match="num_envs and autoreset_mode are for make_vec"):
        gymnasium.make(ID, model=world, num_envs=2)
    with pytest.raises(UsageError, match="capacity >= num_envs"):
        gymnasium.make_vec(ID, num_envs=4, model=world, capacity=2)
    with pytest.raises(UsageError, match="ships no start"):
        gymnasium.make(ID, model=world).reset()
