"""Worlds that plan as rollouts: rows at segments of their own, recached, renewed, rewound."""

import numpy as np
import pytest
import torch

from vidar.configs.mmpl import mmpl_shapes
from vidar.rng import Rng
from vidar.types import UsageError


@pytest.fixture(scope="module")
def world():
    """The network in float64, so that the shape of a call leaves no trace."""
    torch.manual_seed(0)
    made = mmpl_shapes(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    made.net.double()
    return made


def known(world, batch=2):
    """Codes [B, k, n, C] of a context, its actions [B, k, A], and those of the frames after it."""
    frames = np.random.default_rng(0).integers(0, 255, (batch, world.rollout(1).keep, 32, 32, 3), dtype=np.uint8)
    codes = world.encode(torch.from_numpy(frames))
    keys = torch.from_numpy(np.random.default_rng(1).integers(0, 5, (batch, 64, 1)).astype(np.float32))
    return codes, keys[:, : codes.shape[1]], keys[:, codes.shape[1] :]


def test_a_row_that_is_opened_later_is_what_it_is_alone(world):
    codes, before, keys = known(world)
    both, alone = world.rollout(2), world.rollout(2)
    per = both.per_group
    both.open([0], codes[:1], before[:1], [Rng(1)])
    both.group(keys[:, :per])
    for rollout in (both, alone):
        rollout.open([1], codes[1:], before[1:], [Rng(2)])
    for t in (0, per):
        told = keys[:, t : t + per]
        torch.testing.assert_close(both.group(told)[1], alone.group(told)[1], rtol=1e-6, atol=1e-6)


def test_groups_that_know_what_comes_are_the_frames_of_a_stream(world):
    codes, before, keys = known(world)
    rollout, rngs = world.rollout(2), [Rng(1), Rng(2)]
    rollout.open(range(2), codes, before, rngs)
    per, ahead = rollout.per_group, rollout.ahead
    assert ahead > 0 or rollout.chain.map.length == rollout.chain.made
    groups = torch.cat([rollout.group(keys[:, t : t + per + ahead]) for t in (0, per)], 1)
    made = torch.stack(list(world.codes(codes, iter(keys[:, : 2 * per + ahead].unbind(1)), before, rngs)), 1)
    assert torch.equal(made[:, : 2 * per], groups)


def test_a_snapshot_is_come_back_to_row_by_row(world):
    codes, before, keys = known(world)
    rollout = world.rollout(2)
    per = rollout.per_group
    rollout.open(range(2), codes, before, [Rng(1), Rng(2)])
    snapshot = rollout.snapshot()
    first = rollout.group(keys[:, :per])
    rollout.restore(snapshot, [1])
    second = rollout.group(keys[:, :per])
    torch.testing.assert_close(second[1], first[1], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(second[0], first[0])
    rollout.restore(snapshot)
    assert torch.equal(rollout.group(keys[:, :per]), first)


def test_recached_frames_are_read_as_made_under_the_other_actions(world):
    codes, before, keys = known(world)
    switched, fresh, plain = world.rollout(2), world.rollout(2), world.rollout(2)
    per, other = switched.per_group, (before + 1) % 5
    for rollout, told in ((switched, before), (fresh, other), (plain, before)):
        rollout.open(range(2), codes, told, [Rng(1), Rng(2)])
    switched.recache(range(2), codes, other)
    made = switched.group(keys[:, :per])
    assert torch.equal(made, fresh.group(keys[:, :per]))
    assert not torch.equal(made, plain.group(keys[:, :per]))


def test_a_stream_is_renewed_at_the_end_of_a_segment(world):
    codes, before, keys = known(world)
    per, rngs = world.rollout(1).per_group, [Rng(1), Rng(2)]
    told = keys[:, : 2 * per]
    plain = torch.stack(list(world.codes(codes, iter(told.unbind(1)), before, rngs)), 1)
    renewed = torch.stack(list(world.codes(codes, iter(told.unbind(1)), before, rngs, renew=per)), 1)
    assert torch.equal(plain[:, :per], renewed[:, :per]) and not torch.equal(plain[:, per:], renewed[:, per:])
    with pytest.raises(UsageError, match=f"give a multiple of {per}"):
        next(world.codes(codes, iter(told.unbind(1)), before, rngs, renew=per + 1))


def test_refusals(world):
    codes, before, keys = known(world)
    rollout = world.rollout(2)
    with pytest.raises(UsageError, match="a segment begins every"):
        rollout.open([0], codes[:1], before[:1], [Rng(0)], first=1)
    with pytest.raises(UsageError, match="frames next, not 1"):
        rollout.group(keys[:, :1])


def test_a_tokenizer_that_looks_back_decodes_every_group_once(world):
    codes, before, keys = known(world)
    rollout = world.rollout(2)
    rollout.codec = LooksBack(world)
    rollout.open(range(2), codes, before, [Rng(1), Rng(2)])
    made = rollout.group(keys[:, : rollout.per_group])
    rollout.decoding(made)
    with pytest.raises(ValueError, match="decode every frame, and each one once"):
        rollout.decoding(made)


class LooksBack:
    """The codec of a world, which says that its pictures depend on earlier codes."""

    looks_back = True

    def __init__(self, world):
        self.encode, self.decode = world.encode, world.decode
