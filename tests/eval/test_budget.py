"""A budget equals what is allocated."""

import torch

from vidar.cache.ring import RingState
from vidar.configs.catalog import find, find_world
from vidar.eval.budget import budget
from vidar.train.memory import training_bytes


def test_cache_is_what_a_stream_allocates():
    config = find("world_shapes")(preset="tiny")
    world = find_world(config)
    order, grid, _ = world.system()
    state = RingState.create(order, [grid], world.net.build().ring_shapes(), torch.bfloat16)
    held = {name: ring.k.nbytes + ring.v.nbytes for name, ring in state.rings.items()}
    assert budget(config)["cache_bytes"] == {**held, "total": sum(held.values())}


def test_training_is_the_estimate_of_the_run():
    config = find("world_shapes")(preset="tiny", batch=3)
    found = budget(config)
    assert found["training_bytes"] == training_bytes(config)
    assert found["training_bytes"]["states"] == 20 * found["parameters"]["net"]  # the tokenizer is not part of it
    assert "cache_bytes" not in budget(find("tokenizer_shapes")(preset="tiny"))
