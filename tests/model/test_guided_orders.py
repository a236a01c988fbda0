"""Guidance for every kind of order: blocks, chunks and units in flight, plans."""

import numpy as np
import pytest
import torch

from vidar.configs.catalog import recipes
from vidar.model.model import VideoModel
from vidar.model.schedules import PipelineConfig, PyramidConfig, with_schedule
from vidar.rng import Rng
from vidar.sampling.guidance import GuidanceConfig

FRAMES = 5


def config_of(name):
    return recipes()[name](preset="tiny").method.world


KINDS = {
    "blocks": lambda: config_of("acdit_doom"),
    "chunks over a prefix": lambda: config_of("ca2vdm_doom"),
    "a pipeline": lambda: with_schedule(config_of("world_nfd").with_steps(2), PipelineConfig(stages=2)),
    "a pyramid": lambda: with_schedule(config_of("world_nfd").with_steps(2), PyramidConfig(delay=1.5)),
    "a plan": lambda: config_of("mmpl_shapes"),
}


@pytest.fixture(scope="module", params=KINDS)
def world(request):
    torch.manual_seed(0)
    made = KINDS[request.param]().build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made.net.double()  # so that the shape of a call leaves no trace
    return made


def guided(world, **weights):
    return VideoModel(world.config.replace(guidance=GuidanceConfig(**weights)), world.tokenizer, world.net)


def dreamed(world, seed, known=True):
    """Codes of the frames after a context, under actions of a seed."""
    config, generator = world.config, torch.Generator().manual_seed(5)
    context = torch.randn(2, 4, config.sites[0] * config.sites[1], config.channels, generator=generator)
    rng, spec = np.random.default_rng(seed), config.actions.actions
    table = np.stack([rng.integers(a.lowest, a.highest + 1, (2, 4 + FRAMES)) for a in spec], -1)
    actions = torch.from_numpy(table.astype(np.float32))
    before = actions[:, :4] if known else None
    made = world.codes(context, iter(actions[:, 4:].unbind(1)), before, [Rng(3, 0), Rng(3, 1)])
    return torch.stack(list(made), 1)


def test_weight_one_is_no_guidance(world):
    torch.testing.assert_close(dreamed(guided(world, first=1, last=1), 1), dreamed(world, 1), rtol=1e-5, atol=1e-5)


def test_weight_zero_knows_no_action(world):
    none = guided(world, first=0, last=0)
    plain, other = dreamed(world, 1), dreamed(world, 2)
    assert not torch.allclose(plain, other, atol=1e-4)  # the actions count
    torch.testing.assert_close(dreamed(none, 1), dreamed(none, 2), rtol=1e-5, atol=1e-5)


def test_a_weight_that_falls_is_that_of_each_frame(world):
    """With a fall so steep that only frame 0 is guided, frames after a context are not; segments begin at 0 anew."""
    fallen, plain = dreamed(guided(world, first=3, last=3, fall=0.05), 1), dreamed(world, 1)
    always = dreamed(guided(world, first=3, last=3), 1)
    assert not torch.allclose(always, plain, atol=1e-3)
    like = plain if world.config.system().order.endless else always
    torch.testing.assert_close(fallen, like, rtol=1e-4, atol=1e-4)
