"""Worlds that make blocks of frames in turn: rows with clocks of their own, recached, renewed, compiled, rewound."""

import pytest
import torch

from vidar.configs.acdit import acdit_doom
from vidar.configs.nfd import world_nfd
from vidar.model.schedules import PyramidConfig, with_schedule
from vidar.rng import Rng
from vidar.types import UsageError


@pytest.fixture(scope="module")
def world():
    """Blocks of two frames, the network in float64, so that the shape of a call leaves no trace."""
    torch.manual_seed(0)
    made = acdit_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made.net.double()
    return made


def known(world, frames=4, batch=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(
        batch, frames, world.config.sites[0] * world.config.sites[1], world.config.channels, generator=generator
    )
    return codes, (torch.rand(batch, frames + 12, 5, generator=generator) < 0.5).float()


def test_a_row_that_is_opened_later_is_what_it_is_alone(world):
    codes, keys = known(world)
    both, alone = world.rollout(2), world.rollout(2)
    both.open([0], codes[:1], keys[:1, :4], [Rng(1)])
    both.group(keys[:, 4:6])
    for rollout in (both, alone):
        rollout.open([1], codes[1:], keys[1:, :4], [Rng(2)])
    for t in range(4, 12, 2):
        torch.testing.assert_close(
            both.group(keys[:, t : t + 2])[1], alone.group(keys[:, t : t + 2])[1], rtol=1e-6, atol=1e-6
        )


def test_groups_are_the_frames_of_a_stream(world):
    codes, keys = known(world)
    rollout = world.rollout(2)
    rollout.open(range(2), codes, keys[:, :4], [Rng(1), Rng(2)])
    keys[:, 9] = 0  # as after the last action
    groups = torch.cat([rollout.group(keys[:, t : t + 2]) for t in range(4, 10, 2)], 1)
    stream = world.codes(codes, iter(keys[:, 4:9].unbind(1)), keys[:, :4], [Rng(1), Rng(2)])
    made = torch.stack(list(stream), 1)
    assert made.shape[1] == 5 and torch.equal(made, groups[:, :5])


def test_a_snapshot_is_come_back_to_and_calls_may_be_other_functions(world):
    codes, keys = known(world)
    rollout = world.rollout(2, compiled=lambda module, example: module)
    plain = world.rollout(2)
    for one in (rollout, plain):
        one.open(range(2), codes, keys[:, :4], [Rng(1), Rng(2)])
    snapshot = rollout.snapshot()
    first = rollout.group(keys[:, 4:6])
    torch.testing.assert_close(first, plain.group(keys[:, 4:6]), rtol=1e-6, atol=1e-6)
    rollout.restore(snapshot)
    assert torch.equal(rollout.group(keys[:, 4:6]), first)


def test_keys_made_anew_are_those_of_frames_made_under_the_new_actions(world):
    """It goes on as one that was opened after the frames that it sees, under those actions, at their numbers."""
    codes, keys = known(world, frames=6)
    switched, other = world.rollout(2), torch.ones(2, 6, 5)
    seen = slice(6 - 2 * (switched.order.reach + 1), None)  # and the block that the first of these begins from
    assert seen.start > 0
    switched.open(range(2), codes, keys[:, :6], [Rng(1), Rng(2)])
    switched.recache(range(2), codes, other)
    fresh = world.rollout(2)
    fresh.open(range(2), codes[:, seen], other[:, seen], [Rng(1), Rng(2)], seen.start)
    torch.testing.assert_close(switched.group(keys[:, 6:8]), fresh.group(keys[:, 6:8]), rtol=1e-6, atol=1e-6)
    plain = world.rollout(2)
    plain.open(range(2), codes, keys[:, :6], [Rng(1), Rng(2)])
    assert not torch.allclose(plain.group(keys[:, 6:8]), fresh.group(keys[:, 6:8]), atol=1e-4)


def test_renewed_every_block_it_goes_on_from_its_own_pictures(world):
    world.net.float()
    codes, keys = known(world)
    told = [Rng(1), Rng(2)]
    made = torch.stack(list(world.codes(codes, iter(keys[:, 4:10].unbind(1)), keys[:, :4], told, renew=2)), 1)
    plain = torch.stack(list(world.codes(codes, iter(keys[:, 4:10].unbind(1)), keys[:, :4], told)), 1)
    assert torch.equal(made[:, :2], plain[:, :2]) and not torch.allclose(made[:, 2:], plain[:, 2:], atol=1e-3)
    pictures = world.encode(world.decode(made[:, :2])[0])
    far = [Rng(rng.seed, rng.video + 2**32) for rng in told]
    again = torch.stack(list(world.codes(pictures, iter(keys[:, 6:8].unbind(1)), keys[:, 4:6], far)), 1)
    torch.testing.assert_close(made[:, 2:4], again, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="makes 2 frames together: give a multiple of 2"):
        next(world.codes(codes, iter(keys[:, 4:10].unbind(1)), keys[:, :4], told, renew=3))
    world.net.double()


def test_what_is_not_in_turn_is_refused(world):
    config = with_schedule(world_nfd(preset="tiny").method.world.with_steps(2), PyramidConfig(delay=1.0))
    with pytest.raises(UsageError, match="several frames in flight together, so no action can be given between two"):
        config.build().rollout(2)
    with pytest.raises(UsageError, match="does not make groups of 3 frames"):
        world.rollout(2).group(torch.zeros(2, 3, 5))
