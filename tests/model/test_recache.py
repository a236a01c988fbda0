"""Keys made anew after a switch of actions: a fresh stream, to the bit; nothing changes where nothing was switched."""

import math

import numpy as np
import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.configs.nfd import world_nfd
from vidar.rng import Rng
from vidar.types import UsageError

CAPACITY = 2


def built(recipe):
    torch.manual_seed(0)
    world = recipe(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in world.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return world


@pytest.fixture(scope="module", params=[world_doom, world_nfd], ids=["doom, with a hint", "nfd"])
def world(request):
    return built(request.param)


def presses(world, count, seed):
    """Legal actions [count, A]."""
    high = [action.highest + 1 for action in world.config.actions.actions]
    return torch.from_numpy(np.random.default_rng(seed).integers(0, high, (count, len(high))).astype(np.float32))


def begun(world, row, length, seed):
    """A stream with a context in one row: what it knows of codes and actions, as lists."""
    config, streams = world.config, world.rollout(CAPACITY)
    shape = (length, math.prod(config.sites), config.channels)
    codes = torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    actions = presses(world, length, seed)
    streams.open([row], codes[None], actions[None], [Rng(seed)])
    return streams, list(codes), list(actions)


def play(streams, row, actions):
    """Codes of one row; nothing is pressed in the others."""
    made = []
    for action in actions:
        table = torch.zeros(CAPACITY, len(action))
        table[row] = action
        made.append(streams.frame(table)[row])
    return made


@pytest.mark.parametrize(("row", "context", "frames"), [(0, 2, 9), (1, 1, 1), (1, 4, 3)])
def test_it_is_a_fresh_stream_of_the_last_codes_and_the_new_actions(world, row, context, frames):
    streams, codes, actions = begun(world, row, context, seed=3)
    pressed = presses(world, frames, 4)
    codes, actions = codes + play(streams, row, pressed), actions + list(pressed)
    other = presses(world, len(codes), 5)
    streams.recache([row], torch.stack(codes)[None], other[None])
    window, number = streams.order.reach, context + frames
    keep = min(number, window + (world.config.name.startswith("doom") and number > window))
    fresh = world.rollout(CAPACITY)
    fresh.open([row], torch.stack(codes)[None, -keep:], other[None, -keep:], [Rng(3)], number - keep)
    after = presses(world, window + 2, 6)
    made, want = play(streams, row, after), play(fresh, row, after)
    assert all(torch.equal(a, b) for a, b in zip(made, want))


def test_the_same_actions_change_nothing_while_all_is_in_the_window(world):
    (plain, codes, actions), (anew, _, _) = begun(world, 0, 1, 3), begun(world, 0, 1, 3)
    pressed = presses(world, plain.order.reach - 1, 4)
    codes, actions = codes + play(plain, 0, pressed), actions + list(pressed)
    play(anew, 0, pressed)
    after = presses(world, 3, 6)
    anew.recache([0], torch.stack(codes)[None], torch.stack(actions)[None])
    want = play(plain, 0, after)
    assert max(float((a - b).abs().max()) for a, b in zip(play(anew, 0, after), want)) < 1e-4
    switched, _, _ = begun(world, 0, 1, 3)
    play(switched, 0, pressed)
    switched.recache([0], torch.stack(codes)[None], torch.stack(actions).flip(0)[None])
    assert float((play(switched, 0, after)[0] - want[0]).abs().max()) > 1e-3


def test_rows_of_other_streams_go_on_as_they_were(world):
    """Each row at its own frame number; only what is named is made anew."""
    streams, codes, actions = begun(world, 0, 2, 3)
    _, second, more = begun(world, 1, 4, 8)
    streams.open([1], torch.stack(second)[None], torch.stack(more)[None], [Rng(8)])
    plain = world.rollout(CAPACITY)
    plain.open([0], torch.stack(codes)[None], torch.stack(actions)[None], [Rng(3)])
    plain.open([1], torch.stack(second)[None], torch.stack(more)[None], [Rng(8)])
    streams.recache([0], torch.stack(codes)[None], presses(world, 2, 9)[None])
    table = presses(world, CAPACITY, 10)
    ours, theirs = streams.frame(table), plain.frame(table)
    assert torch.equal(ours[1], theirs[1]) and not torch.equal(ours[0], theirs[0])


def test_a_dream_is_recached_where_its_action_changes_and_nowhere_else(world):
    """By hand: the stream of a row is told of the switch; the other row never switches."""
    config, length, frames = world.config, 2, 6
    shape = (2, length, math.prod(config.sites), config.channels)
    context = torch.from_numpy(np.random.default_rng(3).normal(size=shape).astype(np.float32))
    known, other = presses(world, 2, 9), presses(world, 1, 11)[0]
    assert not torch.equal(known[0], other)
    before = known[:, None].expand(-1, length, -1)
    told = [torch.stack([other if frame >= 3 else known[0], known[1]]) for frame in range(frames)]
    rngs = [Rng(3), Rng(8)]

    def dreamt(**options):
        return list(world.codes(context, told, before, rngs, **options))

    streams = world.rollout(2)
    streams.open(range(2), context, before, rngs)
    codes, want = list(context.unbind(1)), []
    for frame, action in enumerate(told):
        if frame == 3:
            streams.recache([0], torch.stack(codes, 1)[:1], other.expand(1, len(codes), -1))
        want.append(streams.frame(action))
        codes.append(want[-1])
    plain, made = dreamt(), dreamt(recache=True)
    assert all(torch.equal(a, b) for a, b in zip(made, want, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(made[:3], plain))
    assert not torch.equal(made[3][0], plain[3][0]) and torch.equal(made[5][1], plain[5][1])
    with pytest.raises(UsageError, match="exclude each other"):
        dreamt(recache=True, renew=2)
