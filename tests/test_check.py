"""A config is checked against itself and the data before anything is built."""

import pytest

from vidar.actions import Action, ActionSpec
from vidar.check import check_device, check_training
from vidar.configs.catalog import find, resolve_recipe
from vidar.data.record import record
from vidar.data.synthetic import SPEC, ShapesConfig
from vidar.nn.pretrained import save_component
from vidar.types import UsageError

JUMP = ActionSpec(actions=(Action(name="jump"),))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    record(ShapesConfig(), None, folder, episodes=1, frames=8)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer of the tiny recipe."""
    config = find("tokenizer_shapes")(preset="tiny").method.tokenizer
    folder = tmp_path_factory.mktemp("tokenizer")
    save_component(config.build(), config, folder)
    return str(folder)


def test_good_configs_pass(data, tokenizer):
    for name, words in (("tokenizer_shapes", []), ("world_shapes", [f"tokenizer={tokenizer}"])):
        config = resolve_recipe(name, ["preset=tiny", f"data={data}", *words])
        assert check_training(config) is config


@pytest.mark.parametrize(
    "words, named",
    [
        (["method.world.fps=12"], "runs at 10 frames/s, the world at 12"),
        (["height=64"], "frames are 32 x 32 .height x width., the world is 64 x 32"),
        (["preset=demo"], "differs from the recipe's tokenizer"),
        (["tokenizer=none"], "none: no tokenizer there"),
        (["data.tokenizer=other"], "data.tokenizer is 'other'"),
        (["data.split=test"], "no split 'test'; it has train"),
        (["method.world.patch=2"], "net.backbone.in_width"),
        (["width=36"], "width 36 does not divide by 8; use 32 or 40"),
    ],
)
def test_worlds_that_do_not_fit(data, tokenizer, words, named):
    with pytest.raises(UsageError, match=named):
        check_training(
            resolve_recipe("world_shapes", ["preset=tiny", f"tokenizer={tokenizer}", f"data={data}", *words])
        )


def test_actions_must_agree(data, tokenizer):
    config = find("world_shapes")(preset="tiny", data=data, tokenizer=tokenizer)
    world = config.method.world
    changed = config.replace(method=config.method.replace(world=world.replace(actions=JUMP)))
    with pytest.raises(UsageError, match="net.conditioner.spec differs"):
        check_training(changed)
    conditioner = world.net.conditioner.replace(spec=JUMP)
    world = world.replace(actions=JUMP, net=world.net.replace(conditioner=conditioner))
    with pytest.raises(UsageError, match=r"actions are move 0\.\.4; the world has jump 0\.\.1"):
        check_training(config.replace(method=config.method.replace(world=world)))
    assert SPEC != JUMP


def test_a_tokenizer_must_divide_the_frames(tmp_path):
    record(ShapesConfig(height=36), None, tmp_path / "d", episodes=1, frames=4)
    with pytest.raises(UsageError, match="height 36 does not divide by the tokenizer's stride 8"):
        check_training(find("tokenizer_shapes")(preset="tiny", data=str(tmp_path / "d")))


def test_devices():
    assert check_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="'nowhere'"):
        check_device("nowhere")
