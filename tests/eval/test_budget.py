"""A budget equals what is allocated."""

import torch

from vidar.cache.ring import RingState
from vidar.configs.catalog import find, find_world
from vidar.eval.budget import SLOT_BYTES, STATE_BYTES, budget


def test_cache_is_what_a_stream_allocates():
    config = find("world_shapes")(preset="tiny")
    world = find_world(config)
    order, grid, _ = world.system()
    state = RingState.create(order, [grid], world.net.build().ring_shapes(), torch.bfloat16)
    held = {name: ring.k.nbytes + ring.v.nbytes for name, ring in state.rings.items()}
    assert budget(config)["cache_bytes"] == {**held, "total": sum(held.values())}


def test_training_counts_what_is_trained():
    config = find("world_shapes")(preset="tiny", batch=3)
    found = budget(config)
    assert found["training_bytes"]["states"] == STATE_BYTES * found["parameters"]["net"]  # the tokenizer is frozen
    slots = 4 * 16  # 4 frames of 16 sites, each once
    assert found["training_bytes"]["activations"] == SLOT_BYTES * 3 * slots * 2 * 32
    tokenizer = budget(find("tokenizer_shapes")(preset="tiny"))
    assert tokenizer["training_bytes"] == {
        "states": STATE_BYTES * tokenizer["parameters"]["total"],
        "activations": None,
    }
    assert "cache_bytes" not in tokenizer
