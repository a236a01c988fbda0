"""Policies in a rollout: a policy that is a shorter window is that window; snapshots cover it; it is traced."""

from dataclasses import replace

import pytest
import torch

from vidar.cache.policy import StridedPolicyConfig
from vidar.configs.nfd import world_nfd
from vidar.core.relation import window
from vidar.core.trace import Evicted
from vidar.model.fingerprint import fingerprint
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.rollout.driver import Rollout
from vidar.rollout.joint import check_joint
from vidar.types import UsageError


@pytest.fixture(scope="module")
def wide():
    """NFD, tiny, window 8, its network in float64, so that the shape of a call leaves no trace."""
    config = world_nfd(preset="tiny").method.world
    torch.manual_seed(0)
    made = config.replace(order=config.order.replace(window=8)).with_steps(2).build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made.net.double()
    return made


def other(world, **changes):
    return VideoModel(world.config.replace(**changes), world.tokenizer, world.net)


def opened(world, setting=None):
    config, generator = world.config, torch.Generator().manual_seed(5)
    context = torch.randn(2, 3, config.sites[0] * config.sites[1], config.channels, generator=generator)
    rollout = Rollout(setting or world.setting(), 2)
    rollout.state.traced = True
    rollout.open(range(2), context, None, [Rng(3, 0), Rng(3, 1)])
    return rollout


def actions(world, count):
    high = torch.tensor([action.highest + 1 for action in world.config.actions.actions])
    return (torch.rand(count, 2, len(high), generator=torch.Generator().manual_seed(1)) * high).floor()


def dreamed(world, setting=None, count=12):
    rollout = opened(world, setting)
    return torch.stack([rollout.frame(action) for action in actions(world, count)])


def test_nothing_older_than_recent_is_a_window_of_that_length(wide):
    """A frame is committed with the first call of the next one, when the oldest that it saw itself is gone."""
    setting = wide.setting()
    main = replace(setting.system.order.relations["main"], sees=window(2), memory=window(1))
    order = replace(setting.system.order, relations={"main": main})
    narrow = replace(setting, system=replace(setting.system, order=order))
    made = dreamed(other(wide, policy=StridedPolicyConfig(recent=2, every=None)))
    torch.testing.assert_close(made, dreamed(wide, narrow), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(made, dreamed(wide), atol=1e-3)


def test_of_older_frames_every_so_manyth_is_kept(wide):
    rollout = opened(other(wide, policy=StridedPolicyConfig(recent=2, every=3)))
    for action in actions(wide, 9):
        rollout.frame(action)
    (ring,), clock = rollout.state.rings.values(), rollout.state.rows[0].clock
    held = sorted(set(ring.slots.unit[0][ring.slots.cell[0] >= 0].tolist()))
    assert clock == 12 and held == [3, 6, 9, 10]  # 11 waits for its commit; 3 leaves the window of 8 with it
    assert any(isinstance(entry, Evicted) for entry in rollout.state.trace)


def test_a_snapshot_brings_back_what_was_forgotten(wide):
    rollout = opened(other(wide, policy=StridedPolicyConfig(recent=2, every=None)))
    table = actions(wide, 8)
    rollout.frame(table[0])
    snapshot = rollout.snapshot()
    straight = [rollout.frame(action) for action in table[1:]]
    rollout.restore(snapshot)
    assert all(torch.equal(rollout.frame(action), made) for action, made in zip(table[1:], straight))


def test_it_is_said_and_refused_where_it_does_not_fit(wide):
    policy = StridedPolicyConfig()
    forgetful = other(wide, policy=policy)
    assert forgetful.config.system().order.approximate and not wide.config.system().order.approximate
    with pytest.raises(UsageError, match="a policy that forgets frames"):
        check_joint(forgetful.setting(), 2)
    assert fingerprint(forgetful) != fingerprint(wide)
