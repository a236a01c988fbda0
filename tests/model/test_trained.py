"""The number of training steps in a model folder: older models lack it, and it changes no fingerprint."""

import json

import pytest

from vidar.configs.shapes import world_shapes
from vidar.model.fingerprint import fingerprint
from vidar.model.load import INDEX, load, save
from vidar.model.trained import FEW_STEPS, few_steps, note_steps, trained_steps
from vidar.types import VidarError


@pytest.fixture
def folder(tmp_path):
    save(world_shapes(preset="tiny").method.world.build(), tmp_path / "world")
    return tmp_path / "world"


def test_a_model_without_the_number_is_not_judged(folder):
    before = (folder / INDEX).read_bytes()
    note_steps(folder, None)
    assert trained_steps(folder) is None and few_steps(folder) is None and (folder / INDEX).read_bytes() == before


def test_the_number_is_kept_beside_the_config_and_the_weights(folder):
    before = fingerprint(load(folder))
    note_steps(folder, FEW_STEPS - 1)
    line = few_steps(folder)
    assert line is not None and str(folder) in line and f"only {FEW_STEPS - 1} steps" in line and "\n" not in line
    assert "more minutes and --resume auto" in line
    note_steps(folder, FEW_STEPS)
    assert trained_steps(folder) == FEW_STEPS and few_steps(folder) is None
    assert fingerprint(load(folder)) == before


def test_a_changed_number_is_noticed(folder):
    note_steps(folder, 20)
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('": 20,', '": 2000,'))
    with pytest.raises(VidarError, match="model_index.json: it or world.json was changed after it was saved"):
        few_steps(folder)
    for value in (-1, True, "20", None, 2.5):
        index = {key: one for key, one in json.loads(text).items() if key != "_sha256"}
        (folder / INDEX).write_text(json.dumps({**index, "_train_steps": value}))
        assert trained_steps(folder) is None, value
    for text in ("[" * 100_000, "[]", ""):
        (folder / INDEX).write_text(text)
        with pytest.raises(VidarError, match="model_index.json: damaged"):
            few_steps(folder)
    (folder / INDEX).write_text(json.dumps({"_sha256": "0"}))
    (folder / "world.json").unlink()
    with pytest.raises(VidarError, match="world.json: cannot be read .*; train or fetch the world again"):
        few_steps(folder)
