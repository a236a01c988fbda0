"""Rollout: every row as if it were alone at that capacity; moments are exact."""

import numpy as np
import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError

CAPACITY = 3


@pytest.fixture(scope="module")
def world() -> VideoModel:
    torch.manual_seed(0)
    made = world_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def given(world, seed, length=4):
    """Context codes [1, T, n, C] and its actions [1, T, A]."""
    rng = np.random.default_rng(seed)
    video = torch.from_numpy(rng.integers(0, 255, (1, length, 64, 80, 3), dtype=np.uint8))
    return world.encode(video), torch.from_numpy(rng.integers(0, 2, (1, length, 5)).astype(np.float32))


def keys(seed, count):
    return torch.from_numpy(np.random.default_rng(100 + seed).integers(0, 2, (count, 5)).astype(np.float32))


def alone(world, row, seed, count, length=4):
    """Codes [count, n, C] of one stream in a given row, the other rows never opened."""
    streams = world.rollout(CAPACITY)
    streams.open([row], *given(world, seed, length), [Rng(seed)])
    pressed = keys(seed, count)
    table = torch.zeros(count, CAPACITY, 5)
    table[:, row] = pressed
    return torch.stack([streams.frame(actions)[row] for actions in table])


def test_rows_opened_at_different_times_are_bit_equal_to_each_alone(world):
    """Seven frames pass the window of 3; row 2 joins after two frames, row 0 begins anew after four."""
    streams, made = world.rollout(CAPACITY), {}
    plays = {0: (10, keys(10, 9)), 1: (11, keys(11, 9)), 2: (12, keys(12, 9))}
    streams.open([0], *given(world, 10), [Rng(10)])
    streams.open([1], *given(world, 11, 6), [Rng(11)])
    began = {0: 0, 1: 0}
    for t in range(9):
        if t == 2:
            streams.open([2], *given(world, 12, 1), [Rng(12)])
            began[2] = 2
        if t == 4:
            plays[0], began[0] = (13, keys(13, 9)), 4
            streams.open([0], *given(world, 13), [Rng(13)])
        actions = torch.zeros(CAPACITY, 5)
        for row, start in began.items():
            actions[row] = plays[row][1][t - start]
        codes = streams.frame(actions)
        for row in began:
            made.setdefault(plays[row][0], []).append(codes[row])
    for row, seed, length in ((0, 10, 4), (1, 11, 6), (2, 12, 1), (0, 13, 4)):
        assert torch.equal(torch.stack(made[seed]), alone(world, row, seed, len(made[seed]), length)), seed


def test_a_stream_is_the_world_s_own(world):
    codes, before = given(world, 3)
    pressed = keys(3, 5)
    want = torch.stack([code[0] for code in world.codes(codes, iter(pressed[:, None]), before, [Rng(3)])])
    torch.testing.assert_close(alone(world, 1, 3, 5), want, rtol=1e-3, atol=1e-4)


def test_going_back_to_a_moment_is_exact_for_all_rows_and_for_some(world):
    streams = world.rollout(CAPACITY)
    for row in range(CAPACITY):
        streams.open([row], *given(world, row), [Rng(row)])
    first, second = keys(1, CAPACITY), keys(2, CAPACITY)
    streams.frame(first)
    snapshot = streams.snapshot()
    want = [streams.frame(second), streams.frame(first), streams.frame(second)]
    streams.restore(snapshot)
    assert not torch.equal(streams.frame(first), want[0])  # other keys, another frame
    streams.restore(snapshot)
    assert all(torch.equal(streams.frame(a), b) for a, b in zip((second, first, second), want))
    streams.restore(snapshot, [1])
    streams.restore(snapshot, [])
    streams.release(snapshot)
    again = streams.frame(second)
    assert torch.equal(again[1], want[0][1]) and not torch.equal(again[0], want[0][0])
    with pytest.raises(ValueError, match="release all marks"):
        streams.snapshot()
        streams.open([0], *given(world, 0), [Rng(0)])


def test_a_video_goes_on_elsewhere_from_its_last_frames(world):
    """Exact (float64) where the context reaches as far back as anything does: depth 2 x window 3 + 3 actions + 1."""
    net, order = world.config.net, world.config.order
    assert (net.backbone.depth, order.window, net.conditioner.history) == (2, 3, 3)
    wide = world.config.build().to(dtype=torch.float64)
    wide.net.load_state_dict(world.net.state_dict())
    wide.tokenizer.load_state_dict(world.tokenizer.state_dict())
    codes, before = given(wide, 3, 8)
    pressed = keys(3, 9)
    streams = wide.rollout(1)
    streams.open([0], codes, before, [Rng(3)])
    made = torch.stack([streams.frame(actions[None])[0] for actions in pressed])
    codes, before = torch.cat([codes[0], made]), torch.cat([before[0], pressed])
    apart = {}
    for keep in (2, 9, 10, 12):
        other, first = wide.rollout(2), 14 - keep
        other.open([1], codes[None, first:14], before[None, first:14], [Rng(3)], first=first)
        again = torch.stack([other.frame(actions.expand(2, -1))[1] for actions in pressed[6:]])
        apart[keep] = (again - made[6:]).abs().max().item()
    with pytest.raises(UsageError, match="too short"):
        wide.rollout(1).open([0], codes[None, 13:14], before[None, 13:14], [Rng(3)], first=13)
    assert apart[10] < 1e-9 and apart[12] < 1e-9 < apart[9] < apart[2], apart
