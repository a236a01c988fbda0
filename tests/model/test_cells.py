"""Frames of several cells, sub-samples or scales: streams against decoding without a ring, and what is refused."""

import pytest
import torch

from vidar.cache.list import ListState
from vidar.conditioning.action import Actions
from vidar.configs.xar import xar_cells_doom, xar_scales_doom, xar_subsamples_doom
from vidar.core.decode import decode
from vidar.core.step import by_waves
from vidar.model.model import VideoModel
from vidar.model.schedules import ChunksConfig
from vidar.rng import Rng
from vidar.rollout.joint import JointStream
from vidar.train.latents import LatentBatch
from vidar.train.methods.world import TwinConfig
from vidar.types import UsageError

FRAMES = 9
RECIPES = {recipe.__name__: recipe for recipe in (xar_cells_doom, xar_subsamples_doom, xar_scales_doom)}


@pytest.fixture(scope="module", params=RECIPES)
def world(request) -> VideoModel:
    """xAR, tiny: two units a frame, each sees 3 frames; its network in float64."""
    torch.manual_seed(0)
    made = RECIPES[request.param](preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return VideoModel(made.config, made.tokenizer, made.net.double())


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
    system = world.config.flow_system(FRAMES, torch.float64)
    order, grid, objective = system.order, system.grid, system.objective
    unknown = torch.arange(FRAMES)[None] == 0
    state = ListState.create(["main"], 1)
    given = {
        unit: code
        for frame in range(begun)
        for unit, code in system.frames.split(frame, codes[1, frame, None].double()).items()
    }
    for unit, code in given.items():
        state.give(unit, code[None])
    conditions = Actions(actions[1:].double(), unknown)
    with torch.no_grad():
        steps = by_waves(order, objective.passes, given)
        found = decode(world.net, order, [grid], objective, steps, state, [Rng(3, 1)], cond=lambda _: conditions)
        units = {unit: code for _, unit, code in found}
    for frame in range(begun, FRAMES):
        slow = system.frames.join(frame, units)[0]
        assert (slow - made[1, frame - begun]).abs().max() < 1e-4 * slow.abs().max()


def test_a_moment_is_come_back_to(world):
    codes, actions = known()
    streams = world.rollout(2)
    streams.open(range(2), codes, actions[:, :2], [Rng(3, 0), Rng(3, 1)])
    snapshot = streams.snapshot()
    first = [streams.frame(actions[:, t]) for t in range(2, 8)]
    streams.restore(snapshot)
    assert all(torch.equal(streams.frame(actions[:, t]), first[t - 2]) for t in range(2, 8))


def test_rows_begun_at_different_frames(world):
    codes, actions = known()
    both, alone = world.rollout(2), world.rollout(2)
    both.open([0], codes[:1], actions[:1, :2], [Rng(3, 0)])
    both.frame(actions[:, 2])
    for streams in (both, alone):
        streams.open([1], codes[1:], actions[1:, :2], [Rng(3, 1)])
    for t in range(3, 8):
        made, slow = both.frame(actions[:, t])[1], alone.frame(actions[:, t])[1]
        assert (made - slow).abs().max() < 1e-5 * slow.abs().max()


def test_training_meets_what_a_stream_begins_with(world, monkeypatch):
    """Frames of a clip on the sites of their units, as `Rollout.open` gives them; and the frames back, in bits."""
    method = RECIPES[world.config.name](preset="tiny").method.build()
    codes = torch.randn(2, 5, 20, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    batch = LatentBatch(codes, torch.zeros(2, 5, 5), torch.zeros(2, 5, dtype=torch.bool), torch.arange(2), ["a", "b"])
    objective, met = method.objective, []
    prepare = objective.prepare
    monkeypatch.setattr(objective, "prepare", lambda codes, *a, **b: met.append(codes) or prepare(codes, *a, **b))
    method.step(world.net.float(), batch, [Rng(0, 0), Rng(0, 1)])
    world.net.double()
    for frame in range(5):
        units = method.system.frames.split(frame, codes[:, frame, None])
        assert all(torch.equal(met[0][:, method.grid.sites(unit)], code) for unit, code in units.items())
        back = method.system.frames.join(frame, {u: code[1] for u, code in units.items()})
        assert torch.equal(back[0], codes[1, frame].to(met[0]))


def test_a_world_that_answers_nothing_shows_the_last_frame_again(world):
    """Fresh weights answer with zero: the hint of every site must be the same site of the frame before."""
    fresh, (codes, actions) = world.config.build(), known()
    for made, _ in zip(fresh.codes(codes, iter(actions.unbind(1)), actions[:, :2], [Rng(3, 0), Rng(3, 1)]), range(3)):
        torch.testing.assert_close(made, codes[:, -1], rtol=0, atol=1e-5)


def test_own_answers_leave_the_first_frame(world):
    """All of its units, which are no matter of the model."""
    method = RECIPES[world.config.name](preset="tiny").method.replace(stream=TwinConfig()).build()
    first = sum(len(method.grid.sites(unit)) for unit in range(2))
    codes = torch.randn(1, 5 * first, 32)
    actions = Actions(torch.zeros(1, 5, 5), torch.zeros(1, 5, dtype=torch.bool))
    with torch.no_grad():
        made = method._answers(world.net.float(), codes, codes, actions, [Rng(0)])
    world.net.double()
    assert torch.equal(made[:, :first], codes[:, :first])
    assert not torch.isclose(made[:, first:], codes[:, first:]).any()


def test_refusals(world):
    with pytest.raises(UsageError, match="does not make whole frames one by one"):
        JointStream(world.setting(), 2)
    with pytest.raises(UsageError, match="part by part, one by one; leave schedule out"):
        list(
            VideoModel(world.config.replace(schedule=ChunksConfig(length=2)), world.tokenizer, world.net).codes(
                known()[0], iter(known()[1].unbind(1))
            )
        )
