"""No recipe with an Order is outside the property suite, whatever its class."""

import inspect
import re
from importlib import import_module
from typing import Any

import pytest
from recipe_cases import made, subject, subjects
from test_p1b import TOLERANCE, largest_difference

from vidar.config import Config
from vidar.configs import catalog
from vidar.configs.shapes import world_shapes
from vidar.core.grid import Grid
from vidar.core.order import Order
from vidar.orders.frame import FrameOrderConfig
from vidar.train.fit import TrainConfig

PROPERTIES = {
    "p1": "test_p1_training_rows_equal_decode_passes",
    "p1b": "test_p1b_cached_decoding_equals_recomputation",
    "p3": "test_p3_prepare_equals_decode",
    "p4": "test_p4_rewind_in_bits",
    "p5": "test_p5_a_draw_moves_dependents_only",
    "p6": "test_p6_",
}


def covered(property):
    """Names of recipes that the tests of a property are run over."""
    module, found = import_module(f"test_recipes_{property}"), set()
    for name, test in vars(module).items():
        for mark in getattr(test, "pytestmark", ()) if name.startswith(PROPERTIES[property]) else ():
            assert mark.name == "parametrize"
            found |= {values if isinstance(values, str) else values[0] for values in mark.args[1]}
    return found


def promises_an_order(config):
    """Whether a config, or one inside it, has a method that promises an Order."""
    for _, method in inspect.getmembers(type(config), inspect.isfunction):
        if re.search(r"\bOrder\b", str(inspect.signature(method).return_annotation)):
            return True
    inner = [getattr(config, field) for field in type(config).model_fields]
    return any(promises_an_order(one) for one in inner if isinstance(one, Config))


def ordered():
    return [name for name, recipe in catalog.recipes().items() if promises_an_order(recipe(preset="tiny"))]


def uncovered(names):
    """(recipe, property) of the recipes with an Order that a property is not tested of."""
    return [(name, property) for name in names for property in PROPERTIES if name not in covered(property)]


ORDERED = ordered()


def test_every_recipe_with_an_order_is_in_every_property():
    assert not uncovered(ORDERED), "these recipes have an Order; the suite finds them by `catalog.find_system`"


def test_there_are_recipes_to_test():
    worlds = {"world_doom", "world_shapes", "acdit_doom", "ca2vdm", "ca2vdm_doom", "mmpl_shapes", "mmpl_doom"}
    parts = {"xar", "xar_cells_doom", "xar_subsamples_doom", "xar_scales_doom"}
    pictures = {"var", "var_shapes", "infinity", "infinity_shapes", "infinitystar", "infinitystar_shapes"}
    assert worlds | parts | pictures | {"videoar_doom", "videoar_shapes"} <= set(subjects())
    assert not [name for name in subjects() if name.startswith(("tokenizer", "decoder", "idm", "outcome", "pose"))]


class OddConfig(Config):
    """Something with an Order that no class of the library is a base of."""

    order: FrameOrderConfig = FrameOrderConfig(window=2)

    def laid_out(self) -> tuple[Order, Grid, Any]:
        return *self.order.build(1, 2), None


def odd(preset: str = "tiny"):
    plain = world_shapes(preset="tiny")
    return TrainConfig(name="odd", method=OddConfig(), data=plain.data, optim=plain.optim)


def no_order(preset: str = "tiny"):
    return world_shapes(preset="tiny").optim


def another(preset: str = "tiny"):
    """A world whose frames are a window of two."""
    plain = world_shapes(preset="tiny")
    world = plain.method.world
    return plain.replace(method=plain.method.replace(world=world.replace(order=FrameOrderConfig(window=2))))


@pytest.fixture
def more_recipes(monkeypatch):
    known = catalog.recipes()
    monkeypatch.setattr(catalog, "recipes", lambda: {**known, "odd": odd, "another": another, "none": no_order})


def test_a_recipe_that_no_property_is_tested_of_is_named(more_recipes):
    """The suite was made before they came; of what it does not find by itself, nothing is left out in silence."""
    assert uncovered(ordered()) == [(name, property) for name in ("odd", "another") for property in PROPERTIES]


def test_a_new_recipe_is_picked_up(more_recipes):
    """Asked now, the suite finds the one that says its system, and it is a case like the others."""
    new = {name: found for name, recipe in catalog.recipes().items() if (found := subject(name, recipe))}
    assert new.keys() - subjects().keys() == {"another"}
    case = made(new["another"])
    ring = case.run_ring()
    assert case.order.reach == 2 and len(ring[1].calls) == case.calls
    assert largest_difference(ring, case.run_oracle()) < TOLERANCE


@pytest.mark.parametrize("property", PROPERTIES)
def test_a_filter_that_skips_a_recipe_is_noticed(monkeypatch, property):
    module = import_module(f"test_recipes_{property}")
    for name, test in vars(module).items():
        if name.startswith(PROPERTIES[property]):
            fewer = [
                pytest.mark.parametrize(m.args[0], [v for v in m.args[1] if "xar" not in (v, *v)]).mark
                for m in test.pytestmark
            ]
            monkeypatch.setattr(test, "pytestmark", fewer)
    assert uncovered(ORDERED) == [("xar", property)]
