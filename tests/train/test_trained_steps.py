"""An exported world says for how many steps its weights were trained, from fresh ones on."""

import pytest
import torch
from made_up import made_up

from vidar.configs.shapes import world_shapes
from vidar.configs.students import world_doom_student
from vidar.model.load import load, save
from vidar.model.trained import note_steps, trained_steps
from vidar.train.fit import build, fit, steps_since_fresh
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.decode import DecodeConfig


def trained(folder, steps, start=None):
    """The model folder of a tiny run."""
    config = made_up(world_shapes, folder / "tokenizer")
    method = config.method.replace(start=None if start is None else str(start))
    optim = config.optim.replace(steps=steps, warmup_steps=1)
    config = config.replace(method=method, optim=optim, minutes=None, compile=False, sample_every=0)
    return fit(config, folder / "run", device="cpu").model


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("first"), 3)


def test_steps_add_up_over_the_runs_that_made_the_weights(first, tmp_path):
    assert trained_steps(first) == 3
    assert trained_steps(trained(tmp_path / "second", 2, first)) == 5
    save(load(first), tmp_path / "older")  # as an earlier version wrote it
    assert trained_steps(trained(tmp_path / "third", 2, tmp_path / "older")) is None


def test_a_student_counts_the_steps_of_its_teacher(tmp_path):
    method = build(made_up(world_doom_student, tmp_path / "tokenizer"), tmp_path / "run", torch.device("cpu")).method
    assert steps_since_fresh(method, 4) is None
    note_steps(tmp_path / "teacher", 10)
    assert steps_since_fresh(method, 4) == 14


def test_a_new_decoder_leaves_the_number_as_it_is(first, tmp_path):
    losses = AutoencodeConfig(tokenizer=load(first).config.tokenizer, latent_penalty=0.0)
    method = DecodeConfig(world=str(first), losses=losses).build()
    method.export(method.build_model(), tmp_path / "new")
    assert trained_steps(tmp_path / "new") == 3
