"""Resource estimates of a config before anything is allocated: parameters, cache, training memory."""

from __future__ import annotations

from typing import Any

from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.configs.catalog import find_model, on_meta, parameters
from vidar.model.model import VideoModelConfig
from vidar.train.config import TrainConfig
from vidar.train.memory import training_bytes

CACHE_BYTES = 2  # bfloat16


def budget(config: Config) -> dict[str, Any]:
    """parameters by network; cache_bytes by relation for one stream; training_bytes, an estimate.

    For an autoencoder, activations are null if the data set is missing, because its frames determine the size.
    """
    counts = parameters(config)
    world = find_model(config)
    result: dict[str, Any] = {"parameters": {**counts, "total": sum(counts.values())}}
    if world is not None:
        result["cache_bytes"] = cache_bytes(world)
    if isinstance(config, TrainConfig):
        result["training_bytes"] = training_bytes(config)
    return result


def cache_bytes(world: VideoModelConfig) -> dict[str, int]:
    """Keys and values in bfloat16 that one endless stream, or one picture, keeps, by relation."""
    net = on_meta(world.net)
    assert isinstance(net, WorldNet)
    system = world.system()
    order, grid = system.order, system.grid
    sizes: dict[str, int] = {}
    for name, shape in net.ring_shapes().items():
        layers, heads, width = shape.layers, shape.heads, shape.width
        capacity = order.relations[name].capacity
        sites = grid.num_sites or 0 if capacity is None else capacity
        sizes[name] = 2 * layers * sites * heads * width * CACHE_BYTES
    return {**sizes, "total": sum(sizes.values())}
