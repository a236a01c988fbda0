"""Worlds of chunks over a clean prefix: contexts, batches, what the cache takes."""

import numpy as np
import pytest
import torch

from vidar.configs.ca2vdm import ca2vdm, ca2vdm_doom
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError


@pytest.fixture(scope="module")
def world() -> VideoModel:
    torch.manual_seed(0)
    made = ca2vdm_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def codes_of(world, context, count, rngs=None, before=None):
    actions = torch.ones(count, len(context), world.config.actions.width)
    return torch.stack(list(world.codes(context, iter(actions), before, rngs)), 1)


def context_of(world, batch, frames):
    height, width = world.config.sites
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, frames, height * width, world.config.channels, generator=generator)


def test_as_many_frames_as_actions_whatever_the_chunk(world):
    context = context_of(world, 1, 1)
    longest = codes_of(world, context, 7)
    assert longest.shape[1] == 7
    for count in (1, 2, 3):
        assert codes_of(world, context, count).shape[1] == count


def test_a_context_counts_up_to_the_border_of_a_chunk(world):
    """Four frames go on from the last three (chunk 2), with their actions; three from all."""
    context, before = context_of(world, 1, 4), torch.rand(1, 4, 5).round()
    four = codes_of(world, context, 5, before=before)
    assert torch.equal(four, codes_of(world, context[:, 1:], 5, before=before[:, 1:]))
    assert not torch.equal(four, codes_of(world, context[:, 3:], 5, before=before[:, 3:]))


def test_rows_of_a_batch_are_those_alone(world):
    context = context_of(world, 2, 3)
    both = codes_of(world, context, 5, [Rng(0, 0), Rng(0, 1)])
    for b in (0, 1):
        torch.testing.assert_close(both[b : b + 1], codes_of(world, context[b : b + 1], 5, [Rng(0, b)]))


def test_generate_after_saving(world, tmp_path):
    save(world, tmp_path / "model", torch.float32)
    again = load(tmp_path / "model", dtype=torch.float32)
    context = np.random.default_rng(0).integers(0, 255, (3, 64, 80, 3), dtype=np.uint8)
    made = [w.generate(context, np.zeros((5, 5), np.float32), seed=2).frames for w in (world, again)]
    assert made[0].shape == (1, 5, 64, 80, 3) and np.array_equal(*made)


def test_an_empty_context_is_refused(world):
    with pytest.raises(UsageError, match="give a context of at least 1 frames"):
        codes_of(world, context_of(world, 1, 0), 2)


def test_a_chain_of_betas_streams_too_and_takes_another_number_of_steps():
    torch.manual_seed(0)
    world = ca2vdm(preset="tiny").method.world.build()
    context, tape = context_of(world, 1, 3), torch.zeros(4, 1, 0)
    made = [torch.stack(list(world.codes(context, iter(tape), steps=steps)), 1) for steps in (None, 3, 5)]
    assert made[0].shape == (1, 4, 4, 16)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    with pytest.raises(UsageError, match="has the objective Diffusion; this needs rectified flow"):
        world.config.flow_system()
