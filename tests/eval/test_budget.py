"""A budget equals what is allocated."""

import pytest
import torch

from vidar.cache.ring import RingState
from vidar.configs.catalog import find, find_world, recipes
from vidar.data.loader import ClipsConfig
from vidar.eval.budget import budget
from vidar.train.dreams import DreamClipsConfig
from vidar.train.memory import training_bytes


def test_cache_is_what_a_stream_allocates():
    config = find("world_shapes")(preset="tiny")
    world = find_world(config)
    system = world.system()
    order, grid = system.order, system.grid
    state = RingState.create(order, [grid], world.net.build().ring_shapes(), torch.bfloat16)
    held = {name: ring.k.nbytes + ring.v.nbytes for name, ring in state.rings.items()}
    assert budget(config)["cache_bytes"] == {**held, "total": sum(held.values())}


def test_training_is_the_estimate_of_the_run():
    config = find("world_shapes")(preset="tiny", batch=3)
    found = budget(config)
    assert found["training_bytes"] == training_bytes(config)
    assert found["training_bytes"]["states"] == 20 * found["parameters"]["net"]  # the tokenizer is not part of it
    assert "cache_bytes" not in budget(find("tokenizer_shapes")(preset="tiny"))


@pytest.mark.parametrize("name", ["world_doom_student", "world_doom_scm"])
def test_a_student_is_budgeted_with_its_teacher_and_its_adversary(name):
    """Nothing is read: the teacher's folder is not there."""
    config = find(name)(preset="tiny", batch=3, teacher="nowhere")
    method, found = config.method, budget(config)
    told, counts = found["training_bytes"], found["parameters"]
    judge = 0 if method.adversary is None else sum(p.numel() for p in method.adversary.build().parameters())
    assert counts.get("adversary", 0) == judge and (name == "world_doom_student" or judge > 0)
    assert told["states"] == 20 * (counts["net"] + judge)
    assert told["teacher"] == 4 * (counts["net"] + counts["tokenizer"])
    assert told["total"] == told["states"] + told["teacher"] + told["activations"]
    twice = budget(find(name)(preset="tiny", batch=6, teacher="nowhere"))["training_bytes"]
    assert 1.9 < twice["activations"] / told["activations"] < 2.001


def test_an_adversary_keeps_a_pass_through_the_teacher():
    config = find("world_doom_scm")(preset="tiny", teacher="nowhere")
    alone = config.replace(method=config.method.replace(adversary=None))
    both, one = (training_bytes(each)["activations"] for each in (config, alone))
    plain = training_bytes(find("world_doom_shortcut")(preset="tiny"))
    assert 1.7 < both / one < 2.5 and "teacher" not in plain and 0.8 < one / plain["activations"] < 1.25


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_has_a_budget(name, tmp_path, monkeypatch):
    """Also without its data; then the size of frames is unknown."""
    monkeypatch.chdir(tmp_path)
    config = recipes()[name](preset="tiny")
    found = training_bytes(config)
    assert found["states"] > 0
    assert (found["activations"] is None) == isinstance(config.data, ClipsConfig | DreamClipsConfig)
