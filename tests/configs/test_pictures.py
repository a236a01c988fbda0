"""Models of pictures before training: published sizes on the meta device, and what does not fit."""

import pytest
import torch

from vidar.cache.ring import RingState
from vidar.check import check_training
from vidar.configs.catalog import find, find_model, parameters, resolve_recipe
from vidar.data.annotations import ShapeCaptionConfig
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.eval.budget import budget
from vidar.nn.pretrained import save_component
from vidar.tokenizers.schedules import VAR_SIDES
from vidar.types import UsageError


@pytest.mark.parametrize("depth", [16, 20, 24, 30])
def test_var_has_73728_d_cubed_weights(depth):
    """Within 4 %: 18 (64 d)^2 a block; beside the blocks there are codes, classes and the head."""
    config = find("var")(preset=f"d{depth}")
    net = parameters(config)["net"]
    width = 64 * depth
    blocks = depth * 18 * width**2
    assert blocks == 73_728 * depth**3
    assert blocks < net < 1.04 * blocks
    pictures = find_model(config)
    assert pictures.net.backbone.depth == pictures.net.backbone.heads == depth
    assert sum(side**2 for side in VAR_SIDES[256]) == 680 == pictures.system().grid.num_sites
    assert (pictures.height, pictures.width) == (256, 256)


@pytest.mark.parametrize(
    "name, preset, billions, within",
    [("infinity", "2b", 2, 0.15), ("infinity", "8b", 8, 0.15), ("infinitystar", "8b", 8, 0.2)],
)
def test_names_are_sizes(name, preset, billions, within):
    """Infinity within 15 %; InfinityStar within 20 %: it groups its keys, and has no cross-attention."""
    assert abs(parameters(find(name)(preset=preset))["net"] / (billions * 1e9) - 1) < within


def test_sequences_are_those_of_the_papers():
    assert find_model(find("infinity")()).system().grid.num_sites == 10_521
    star = find_model(find("infinitystar")())
    visits = [sum(t * h * w for t, h, w in sizes) for sizes in star.order.over(star.tokenizer.sides).sizes(21)]
    assert visits == [3 * 3899, 3 * 77_980]  # every scale three times
    assert star.latent_frames(star.frames) == 21 and (star.height, star.width) == (480, 848)


@pytest.mark.parametrize("name", ["var_shapes", "infinity_shapes", "infinitystar_shapes"])
def test_budget_is_what_a_picture_allocates(name):
    config = find(name)(preset="tiny")
    pictures = find_model(config)
    system = pictures.system()
    order, grid = system.order, system.grid
    state = RingState.create(order, [grid], pictures.net.build().ring_shapes(), torch.bfloat16)
    held = {key: ring.k.nbytes + ring.v.nbytes for key, ring in state.rings.items()}
    found = budget(config)
    assert found["cache_bytes"] == {**held, "total": sum(held.values())}
    assert found["training_bytes"]["states"] == 20 * found["parameters"]["net"]
    assert found["training_bytes"]["activations"] > 0


def test_a_sequence_too_long_for_a_table_is_not_estimated():
    found = budget(find("infinitystar")())["training_bytes"]
    assert found["activations"] is None and found["states"] > 100e9


BOOK = "method.pictures.tokenizer.pyramid.quantiser"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Shards of shapes, and the tiny tokenizers of images and of clips."""
    folder = tmp_path_factory.mktemp("parts")
    record(ShapesConfig(), None, folder / "data", episodes=1, frames=20)
    found = {"data": str(folder / "data")}
    for name in ("var_shapes", "infinitystar_shapes"):
        config = find(name)(preset="tiny").method.pictures.tokenizer
        save_component(config.build(), config, folder / name)
        found[name] = str(folder / name)
    return found


def words(parts, name, *more):
    return resolve_recipe(name, ["preset=tiny", f"data={parts['data']}", f"tokenizer={parts[name]}", *more])


@pytest.mark.parametrize("name", ["var_shapes", "infinitystar_shapes"])
def test_good_configs_pass(parts, name):
    config = words(parts, name)
    assert check_training(config) is config


@pytest.mark.parametrize(
    "name, more, named",
    [
        ("var_shapes", ["tokenizer=none"], "none: no tokenizer there"),
        ("var_shapes", ["preset=demo"], "differs from the recipe's tokenizer"),
        ("var_shapes", [f"{BOOK}.beta=0.5"], "differs from the recipe's tokenizer"),
        ("var_shapes", [f"{BOOK}.size=32"], "net.backbone.out_width is 16, this model needs 32"),
        ("var_shapes", ["data.tokenizer=other"], "data.tokenizer is 'other'"),
        ("var_shapes", ["data.frames=9"], "data.frames is 9, the method has 1"),
        ("var_shapes", ["data.split=test"], "no split 'test'"),
        ("var_shapes", ["method.pictures.net.backbone.in_width=9"], "net.backbone.in_width is 9, this model needs 10"),
        ("infinitystar_shapes", ["method.pictures.frames=16"], "16 frames do not fit a time stride of 4; use 13 or 17"),
        ("infinitystar_shapes", ["method.pictures.frames=5"], "2 latent frames are less than one clip"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(parts, name, more, named):
    with pytest.raises(UsageError) as error:
        check_training(words(parts, name, *more))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_classes_and_captions_are_not_mixed_up(parts):
    config = words(parts, "var_shapes")
    other = config.replace(data=config.data.replace(annotation=ShapeCaptionConfig()))
    with pytest.raises(UsageError, match="data.annotation gives captions; the model needs the other kind"):
        check_training(other)
    with pytest.raises(UsageError, match="reads features of an external text encoder, which no data set here contains"):
        check_training(find("infinity")(preset="tiny", data=parts["data"]))
    record(ShapesConfig(height=40), None, parts["data"] + "-tall", episodes=1, frames=4)
    with pytest.raises(UsageError, match="frames are 40 x 32, the model's 32 x 32"):
        check_training(words({**parts, "data": parts["data"] + "-tall"}, "var_shapes"))
