"""Calls as functions of static shapes, for every kind of order: the same frames; what folds is refused."""

import numpy as np
import pytest
import torch

from vidar.configs.catalog import recipes
from vidar.rng import Rng
from vidar.types import UsageError


def built(name):
    torch.manual_seed(0)
    method = recipes()[name](preset="tiny").method
    made = (method.world if hasattr(method, "world") else method.pictures).build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def as_it_is(module, example):
    return module


@pytest.mark.parametrize("name", ["world_nfd", "videoar_doom", "acdit_doom", "mmpl_shapes"])
def test_a_compiled_world_dreams_the_same(name):
    world = built(name)
    config, generator = world.config, torch.Generator().manual_seed(1)
    codes = torch.randn(1, 4, config.sites[0] * config.sites[1], config.channels, generator=generator)
    actions = torch.from_numpy(config.actions.noop()).expand(1, 5, -1)

    def dreamed():
        return torch.stack(list(world.codes(codes, iter(actions.unbind(1)), None, [Rng(3)])), 1)

    plain = dreamed()
    assert world.compile(as_it_is) is world
    if config.by_scales:  # labels are drawn: a last digit may turn one
        assert dreamed().shape == plain.shape
    else:
        torch.testing.assert_close(dreamed(), plain, rtol=1e-3, atol=1e-4)


def test_compiled_pictures_are_the_same():
    model = built("infinitystar_shapes")
    plain = model.generate(prompt="a red ring", seed=3).frames
    made = model.compile(as_it_is).generate(prompt="a red ring", seed=3).frames
    assert made.shape == plain.shape and np.abs(made.astype(int) - plain).mean() < 20


def test_what_folds_is_refused_before_anything_is_built():
    with pytest.raises(UsageError, match="has folds; a world with such a relation cannot be compiled"):
        built("ca2vdm_doom").compile(lambda module, example: pytest.fail("built"))
