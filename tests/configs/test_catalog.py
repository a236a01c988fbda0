"""Recipes: found, small where they are tiny, listed in the table."""

import time
from pathlib import Path

import pytest
import torch

import vidar.configs
from vidar.check import check_world
from vidar.configs.catalog import STATUS, components, find, find_world, markdown, parameters, recipes
from vidar.types import UsageError

RECIPES = list(recipes())


def test_every_recipe_has_a_status():
    assert sorted(STATUS) == RECIPES


def test_readme_holds_the_table():
    text = (Path(vidar.configs.__file__).parent / "README.md").read_text()
    for row in markdown().splitlines():
        assert row in text.splitlines(), "python -m vidar.configs.catalog prints the table of configs/README.md"


@pytest.mark.parametrize("name", RECIPES)
def test_tiny_is_tiny(name):
    start = time.perf_counter()
    config = find(name)(preset="tiny")
    built = {key: part.build() for key, part in components(config).items()}
    assert time.perf_counter() - start < 2
    counts = {key: sum(p.numel() for p in module.parameters()) for key, module in built.items()}
    assert counts == parameters(config)  # counted without storage
    assert 0 < sum(counts.values()) < 1_000_000


@pytest.mark.parametrize("name", RECIPES)
def test_worlds_fit_together(name):
    world = find_world(find(name)())
    assert (world is not None) == name.startswith(("world", "videoar", "acdit", "xar", "mmpl", "ca2vdm"))
    if world is not None:
        check_world(world)
        with pytest.raises(UsageError, match="does not divide"):
            check_world(world.replace(width=world.width + 1))


def test_near_matches():
    with pytest.raises(UsageError, match="did you mean world_doom"):
        find("wrold_doom")
    with pytest.raises(UsageError, match="valid: .*world_doom"):
        find("zzz")


def test_meta_leaves_no_default_device():
    parameters(find("world_shapes")(preset="tiny"))
    assert torch.empty(1).device.type == "cpu"
