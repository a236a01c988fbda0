"""Worlds of blocks: what they dream against decoding without a cache, fewer actions than a block, batches, refusals."""

import numpy as np
import pytest
import torch

from vidar.cache.list import ListState
from vidar.conditioning.action import Actions
from vidar.configs.acdit import acdit_doom
from vidar.core.decode import decode
from vidar.core.step import by_waves
from vidar.data.episode import Episode
from vidar.eval.world_eval import evaluate
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError


@pytest.fixture(scope="module")
def world() -> VideoModel:
    """ACDiT, tiny: blocks of 2 frames that see one block; its network in float64."""
    torch.manual_seed(0)
    made = acdit_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return VideoModel(made.config, made.tokenizer, made.net.double())


def known(frames=4, seed=0):
    """Context codes [2, T, n, C] and actions [2, T + 9, A]."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(2, frames, 20, 32, generator=generator)
    return codes, torch.randint(0, 2, (2, frames + 9, 5), generator=generator).float()


def dreamed(world, codes, actions, frames, rows=(0, 1)):
    """[B, frames, n, C] under so many actions."""
    begun = codes.shape[1]
    told = iter(actions[list(rows), begun : begun + frames].unbind(1))
    rngs = [Rng(3, row) for row in rows]
    return torch.stack(list(world.codes(codes[list(rows)], told, actions[list(rows), :begun], rngs)), 1)


def test_dreams_equal_decoding_without_a_ring(world):
    """Context of 5 frames, of which the last two blocks count; then 9 frames, 5 blocks."""
    codes, actions = known(5)
    made = dreamed(world, codes, actions, 9)
    assert made.shape == (2, 9, 20, 32)
    for row in range(2):
        slow = slowly(world, codes[row, 1:].double(), torch.cat([actions[row, 1:], torch.zeros(1, 5)]), Rng(3, row))
        assert (slow[:9] - made[row]).abs().max() < 1e-4 * slow.abs().max()


def slowly(world, context, actions, rng):
    """Codes [T - 4, n, C] after a context of two blocks, by waves of a finite order."""
    system = world.config.flow_system(len(actions), torch.float64)
    order, grid, objective = system.order, system.grid, system.objective
    conditions = Actions(actions[None].double(), torch.arange(len(actions))[None] == 0)
    state, given = ListState.create(["main"], 1), dict(enumerate(context.unflatten(0, (2, 2)).flatten(1, 2)))
    for unit, code in given.items():
        state.give(unit, code[None])
    steps = by_waves(order, objective.passes, given)
    with torch.no_grad():
        found = decode(world.net, order, [grid], objective, steps, state, [rng], cond=lambda _: conditions)
        units = {unit: code for _, unit, code in found}
    return torch.cat([units[unit].unflatten(0, (2, -1)) for unit in range(2, len(actions) // 2)])


def test_fewer_actions_than_a_block(world):
    """As many frames as actions; they are those of a whole block in whose last frame nothing is pressed."""
    codes, actions = known()
    actions[:, 4 + 3 :] = 0
    short, whole = dreamed(world, codes, actions, 3), dreamed(world, codes, actions, 4)
    assert short.shape[1] == 3 and torch.equal(short, whole[:, :3])
    other = actions.clone()
    other[:, 4 + 3] = 1
    assert not torch.equal(dreamed(world, codes, other, 4)[:, 2], whole[:, 2])  # a frame reads its whole block


def test_rows_of_a_batch_are_alone(world):
    codes, actions = known()
    both = dreamed(world, codes, actions, 5)
    for row in range(2):
        assert (dreamed(world, codes, actions, 5, [row])[0] - both[row]).abs().max() < 1e-5


def test_a_clip_and_an_evaluation(world):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 20, 64, 80, 3), dtype=np.uint8)
    actions = rng.integers(0, 2, (2, 20, 5)).astype(np.float32)
    clip = world.generate(frames[0, :4], actions[0, 4:7], seed=3).frames
    assert clip.shape == (1, 3, 64, 80, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, world.generate(frames[0, :4], actions[0, 4:7], seed=3).frames)
    episodes = [Episode(frames[e], actions[e], 17.5, world.config.actions, str(e), "noise") for e in range(2)]
    scores = evaluate(world, episodes, 4, 16)
    assert scores.dreamed.shape == (2, 16, 64, 80, 3) and np.isfinite(scores.psnr["model"]).all()


def test_refusals(world):
    with pytest.raises(UsageError, match="give a context of at least 2 frames"):
        next(world.codes(known(1)[0], iter([torch.zeros(2, 5)])))
    with pytest.raises(UsageError, match="5 frames do not fill whole blocks of 2"):
        world.config.system(5)
