"""Recipes: found by their mark, each with a status, small where they are tiny, fitting together."""

import inspect
import pkgutil
import sys
import time
from importlib import import_module

import pytest
import torch

import vidar.configs
from vidar.configs.catalog import components, find, find_model, find_system, find_world, parameters, recipes
from vidar.configs.recipe import STATUSES, status_of
from vidar.configs.table import entries
from vidar.train.methods.latent_clips import check_world
from vidar.types import UsageError

RECIPES = list(recipes())


def test_every_recipe_has_a_status():
    assert {status_of(recipe) for recipe in recipes().values()} == set(STATUSES)
    assert status_of(find) is None


def test_no_recipe_is_forgotten():
    """A public function with a `preset` is a recipe, or it is named otherwise."""
    for module in pkgutil.iter_modules(vidar.configs.__path__):
        for name, value in inspect.getmembers(import_module(f"vidar.configs.{module.name}"), inspect.isfunction):
            if "preset" in inspect.signature(value).parameters and not name.startswith("_"):
                assert name in RECIPES, f"{module.name}.{name} is not marked with @recipe(status=...)"


NEW = '''
"""One system, in one file."""
from vidar.configs.recipe import recipe
from vidar.configs.shapes import world_shapes

@recipe(status="trainable")
def brand_new(preset: str = "demo"):
    """A world of its own."""
    return world_shapes(preset=preset)

def helper(preset: str = "demo"):
    return brand_new(preset)
'''


def test_a_module_with_one_marked_function_is_a_recipe(tmp_path, monkeypatch):
    """Found, listed and described, with nothing edited elsewhere."""
    (tmp_path / "brand_new_system.py").write_text(NEW)
    monkeypatch.setattr(vidar.configs, "__path__", [*vidar.configs.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "vidar.configs.brand_new_system", raising=False)
    try:
        assert recipes().keys() - set(RECIPES) == {"brand_new"}
        assert find("brand_new")(preset="tiny").method.world.name == "shapes"
        (entry,) = entries("brand_new")
        assert (entry.what, entry.status, entry.group) == ("A world of its own.", "trainable", "Worlds")
    finally:
        sys.modules.pop("vidar.configs.brand_new_system", None)


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
    """What has an Order is a world, which has actions, or a model of pictures; nothing else is either."""
    config = find(name)()
    system, world = find_system(config), find_world(config)
    assert system == find_model(config) and (world is None) == (system is None or system.actions is None)
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
