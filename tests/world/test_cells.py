"""Worlds whose frames are several cells: streams against decoding without a ring, and what they refuse."""

import pytest
import torch

from vidar.cache.list import ListState
from vidar.conditioning.action import Actions
from vidar.configs.xar import xar_cells_doom
from vidar.core.decode import decode
from vidar.core.step import by_waves
from vidar.rng import Rng
from vidar.train.methods.world import TwinConfig
from vidar.types import UsageError
from vidar.world.joint import JointStream
from vidar.world.scheduled import ChunksConfig
from vidar.world.streams import Streams
from vidar.world.world import World

FRAMES = 9


@pytest.fixture(scope="module")
def world() -> World:
    """xAR, tiny: upper and lower half of a frame, each sees 3 frames; its network in float64."""
    torch.manual_seed(0)
    made = xar_cells_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return World(made.config, made.tokenizer, made.net.double())


def known(begun=2):
    """Codes [2, begun, n, C] and actions [2, FRAMES, A]."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2, begun, 20, 32, generator=generator)
    return codes, torch.randint(0, 2, (2, FRAMES, 5), generator=generator).float()


@pytest.mark.parametrize("begun", [1, 2, 5])
def test_a_stream_equals_decoding_without_a_ring(world, begun):
    codes, actions = known(begun)
    told = iter(actions[:, begun:].unbind(1))
    made = torch.stack(list(world.codes(codes, told, actions[:, :begun], [Rng(3, 0), Rng(3, 1)])), 1)
    assert made.shape == (2, FRAMES - begun, 20, 32)
    order, grid, objective = world.config.flow_system(FRAMES, torch.float64)
    unknown = torch.arange(FRAMES)[None] == 0
    state = ListState.create(["main"], 1)
    given = {
        unit: code
        for frame in range(begun)
        for unit, code in objective.frame_units(frame, codes[1, frame].double()).items()
    }
    for unit, code in given.items():
        state.give(unit, code[None])
    conditions = Actions(actions[1:].double(), unknown)
    with torch.no_grad():
        steps = by_waves(order, objective.passes, given)
        found = decode(world.net, order, [grid], objective, steps, state, [Rng(3, 1)], cond=lambda _: conditions)
        units = {unit: code for _, unit, code in found}
    for frame in range(begun, FRAMES):
        slow = objective.frame_code({2 * frame: units[2 * frame], 2 * frame + 1: units[2 * frame + 1]})
        assert (slow - made[1, frame - begun]).abs().max() < 1e-4 * slow.abs().max()


def test_a_moment_is_come_back_to(world):
    codes, actions = known()
    streams = Streams(world, 2)
    streams.open(range(2), codes, actions[:, :2], [Rng(3, 0), Rng(3, 1)])
    moment = streams.hold()
    first = [streams.frame(actions[:, t]) for t in range(2, 8)]
    streams.back(moment)
    assert all(torch.equal(streams.frame(actions[:, t]), first[t - 2]) for t in range(2, 8))


def test_own_answers_leave_the_first_frame(world):
    """Both of its cells, which are no matter of the model."""
    method = xar_cells_doom(preset="tiny").method.replace(stream=TwinConfig()).build()
    codes = torch.randn(1, 5 * 20, 32)
    actions = Actions(torch.zeros(1, 5, 5), torch.zeros(1, 5, dtype=torch.bool))
    with torch.no_grad():
        made = method._answers(world.net.float(), codes, codes, actions, [Rng(0)])
    world.net.double()
    assert torch.equal(made[:, :20], codes[:, :20]) and not torch.isclose(made[:, 20:], codes[:, 20:]).any()


def test_refusals(world):
    with pytest.raises(UsageError, match="does not make whole frames one by one"):
        JointStream(world, 2)
    with pytest.raises(UsageError, match="cell by cell, one by one; leave schedule out"):
        list(
            World(world.config.replace(schedule=ChunksConfig(length=2)), world.tokenizer, world.net).codes(
                known()[0], iter(known()[1].unbind(1))
            )
        )
