"""Reward and end of a dream: those of the world's head on the right frames, and what follows an end."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from vidar.data.video import write_video
from vidar.model.model import VideoModel
from vidar.nn.outcome import OutcomeNetConfig
from vidar.types import UsageError

ID = "Vidar/World-v0"
END, PRIZE = 0, 1  # columns of the keys that the simple head below obeys


def with_head(world, change):
    rows, columns = world.config.sites
    config = OutcomeNetConfig(
        spec=world.config.actions, rows=rows, columns=columns, channels=world.config.channels, width=8, kept=2, hidden=8
    )
    torch.manual_seed(1)
    head = config.build()
    with torch.no_grad():
        change(head)
    return VideoModel(world.config, world.tokenizer, world.net, outcome=head)


@pytest.fixture(scope="module")
def seeing(world):
    """A head of random weights; nothing ends."""

    def change(head):
        torch.nn.init.normal_(head.out.weight)
        head.out.bias[1] = -100
        head.scale.fill_(3.0)

    return with_head(world, change)


@pytest.fixture(scope="module")
def obeying(world):
    """Key 0 ends the game, key 1 is worth 2."""

    def change(head):
        layer = head.hidden[0]
        layer.weight.zero_(), layer.bias.zero_()
        for unit, key in enumerate((END, PRIZE)):
            layer.weight[unit, key - 5] = 20.0  # of the 5 keys, which come last
        head.out.weight[0, PRIZE], head.out.weight[1, END] = 0.05, 1.0
        head.scale.fill_(2.0)

    return with_head(world, change)


@pytest.fixture
def start(first_frames):
    return {"context": first_frames, "actions": np.random.default_rng(3).integers(0, 2, (4, 5))}


def keys(*pressed):
    """One row for each dream: the columns that are down."""
    return np.array([[column in row for column in range(5)] for row in pressed], np.int8)


def random_keys(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2, (*shape, 5)).astype(np.int8)


def test_the_reward_is_what_the_head_says_of_the_frame_before_this_one_and_the_key(seeing, start):
    env = gymnasium.make_vec(ID, num_envs=2, model=seeing, capacity=3, autoreset_mode=AutoresetMode.DISABLED)
    streams = seeing.rollout(3)
    env.reset(seed=[4, 5], options=start)
    last = torch.zeros(3, 20, 32)
    for row, seed in enumerate((4, 5)):
        last[row] = streams.begin(row, start["context"], start["actions"], seed)[-1]
    for t, pressed in enumerate(random_keys(0, 5, 2)):
        if t == 3:  # one begins anew
            env.reset(seed=[9, 9], options={**start, "reset_mask": np.array([False, True])})
            last[1] = streams.begin(1, start["context"], start["actions"], 9)[-1]
        padded = torch.zeros(3, 5)
        padded[:2] = torch.from_numpy(pressed)
        codes = streams.frame(padded)
        with torch.no_grad():
            rows = [seeing.outcome(torch.stack([last, codes], 1)[r : r + 1], padded[r : r + 1])[0] for r in (0, 1)]
        _, reward, ended, cut, _ = env.step(pressed)
        assert reward.dtype == np.float64 and reward.tolist() == torch.cat(rows).tolist() and len(set(reward)) == 2
        assert not ended.any() and not cut.any()
        last = codes.clone()


def test_rewards_of_many_worlds_are_those_of_single_ones(seeing, start):
    pressed = random_keys(1, 6, 3)
    vector = gymnasium.make_vec(ID, num_envs=3, model=seeing)
    vector.reset(seed=20, options=start)
    many = [vector.step(row)[1] for row in pressed]
    for i in (0, 2):
        one = gymnasium.make(ID, model=seeing, capacity=3)
        one.reset(seed=20 + i, options=start)
        alone = [one.step(row[i])[1] for row in pressed]
        assert alone == [row[i] for row in many] and all(type(reward) is float for reward in alone)


def test_a_world_with_a_head_passes_the_checks_of_gymnasium(obeying, seeing, first_frames, tmp_path):
    for world in (obeying, seeing):
        write_video(tmp_path / "start.mp4", first_frames, world.config.fps)
        ready = VideoModel(world.config, world.tokenizer, world.net, tmp_path / "start.mp4", world.outcome)
        check_env(gymnasium.make(ID, model=ready, render_mode="rgb_array").unwrapped, skip_render_check=False)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_head_ends_a_dream_in_every_mode(obeying, start, mode):
    env = gymnasium.make_vec(ID, num_envs=3, model=obeying, horizon=3, autoreset_mode=mode)
    begin = env.unwrapped._context  # what is drawn after an end begins as the first ones did
    env.unwrapped._context = lambda seed, options: begin(seed, options or start)
    env.reset(seed=[1, 2, 3], options=start)
    frames, reward, ended, cut, info = env.step(keys([END], [PRIZE], []))
    assert ended.tolist() == [True, False, False] and not cut.any()
    assert np.allclose(reward, [0, 2, 0], atol=1e-6)
    if mode == AutoresetMode.SAME_STEP:
        assert info["_final_obs"].tolist() == [True, False, False] and info["frame"].tolist() == [0, 1, 1]
        assert info["final_info"]["frame"].tolist() == [1, 0, 0]
        assert not np.array_equal(info["final_obs"][0], frames[0])
        _, reward, ended, _, info = env.step(keys([PRIZE], [], []))
        assert np.allclose(reward, [2, 0, 0], atol=1e-6) and not ended.any() and info["frame"].tolist() == [1, 2, 2]
    elif mode == AutoresetMode.NEXT_STEP:
        assert info["frame"].tolist() == [1, 1, 1]
        _, reward, ended, _, info = env.step(keys([END, PRIZE], [], []))  # ignored: it begins anew
        assert not reward.any() and not ended.any() and info["frame"].tolist() == [0, 2, 2]
    else:
        with pytest.raises(UsageError, match="call reset"):
            env.step(keys([], [], []))
        env.reset(options={**start, "reset_mask": ended})
        _, _, ended, _, info = env.step(keys([], [], []))
        assert not ended.any() and info["frame"].tolist() == [1, 2, 2]
    _, _, ended, cut, _ = env.step(keys([], [END], []))  # both at once; the third by the horizon alone
    assert ended.tolist() == [False, True, False] and cut.tolist() == [False, True, True]


def test_a_single_dream_ends(obeying, start):
    env = gymnasium.make(ID, model=obeying).unwrapped
    env.reset(seed=0, options=start)
    assert env.step(keys([])[0])[1:4] == (0.0, False, False)
    _, reward, ended, cut, _ = env.step(keys([END, PRIZE])[0])
    assert np.isclose(reward, 2, atol=1e-6) and ended is True and cut is False
    with pytest.raises(UsageError, match="call reset"):
        env.step(keys([])[0])
    env.reset(seed=0, options=start)
    assert env.step(keys([])[0])[2] is False


def test_half_a_chance_is_no_end(world, start):
    """Terminated by probability > 0.5: at logit 0 the game goes on, just above it is over."""
    for logit, over in ((0.0, False), (1e-3, True)):
        made = with_head(world, lambda head, logit=logit: head.out.bias.copy_(torch.tensor([0.0, logit])))
        env = gymnasium.make(ID, model=made)
        env.reset(seed=0, options=start)
        assert env.step(keys([])[0])[2] is over
