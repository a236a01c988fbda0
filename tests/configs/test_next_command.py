"""The command that follows a training."""

from pathlib import Path

import pytest

from vidar.configs.catalog import find, find_model, recipes
from vidar.configs.next_command import next_command
from vidar.model.load import save
from vidar.nn.pretrained import save_component


def tokenizer(name, folder):
    config = find(name)(preset="tiny").method.tokenizer
    save_component(config.build(), config, folder)
    return folder


@pytest.mark.parametrize(
    "name, following",
    [("tokenizer_own", "world_own"), ("tokenizer_doom", "world_doom"), ("tokenizer_var_shapes", "var_shapes")],
)
def test_a_tokenizer_is_followed_by_what_trains_on_it(tmp_path, monkeypatch, name, following):
    monkeypatch.chdir(tmp_path)
    model = tokenizer(name, tmp_path / "runs" / name / "model").relative_to(tmp_path)
    assert following in recipes() and next_command(model, name, name) == f"vidar train {following}"
    words = ["minutes=2", "preset=tiny", "data=my games"]
    assert next_command(model, name, name, words) == f"vidar train {following} preset=tiny 'data=my games'"
    other = tokenizer(name, tmp_path / "t")
    assert next_command(other, name, name) == f"vidar train {following} tokenizer={other}"


def test_a_world_is_played_and_a_picture_is_generated(tmp_path):
    for name, command in (("world_shapes", "vidar play {}"), ("var", "vidar generate {} --label 0 --out sample.png")):
        config = find_model(find(name)(preset="tiny"))
        assert config is not None
        save(config.build(), tmp_path / name)
        assert next_command(tmp_path / name, name, name) == command.format(tmp_path / name)


def test_a_reader_of_keys_judges_a_world():
    told = "vidar eval WORLD --suite world --idm 'my model' --out runs/eval"
    assert next_command(Path("my model"), "idm", "idm_doom") == told


def test_of_an_unknown_model_nothing_is_said(tmp_path):
    for recipe in ("mine.yaml", "package.recipe", "outcome"):
        assert next_command(tmp_path, recipe, "mine") is None
