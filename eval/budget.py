"""What a config will take, known before anything is allocated: parameters, cache, training memory."""

from __future__ import annotations

from typing import Any

from vidar.conditioning.net import WorldNet
from vidar.config import Config
from vidar.configs.catalog import components, find_world, on_meta, parameters
from vidar.train.fit import TrainConfig
from vidar.train.latents import LatentClipsConfig
from vidar.train.methods.world import TrainWorldConfig
from vidar.types import RingShape
from vidar.world.world import WorldConfig

CACHE_BYTES = 2  # bfloat16
STATE_BYTES = 20  # fp32 weight, gradient, two moments of Adam: 16; the averaged weight: 4
SLOT_BYTES = 34  # per slot, block and unit of width


def budget(config: Config) -> dict[str, Any]:
    """parameters by network; cache_bytes by relation for one stream; training_bytes, an estimate.

    Choice: training = 20 bytes per trained parameter + 34 bytes per (clip, slot, block, width) of activations, the
    linear term of Korthikanti et al., Reducing Activation Recomputation (2022), eq. 1; attention keeps no square. Data
    and the allocator's slack are not counted. Activations of a tokenizer are not estimated (null).
    """
    counts = parameters(config)
    world = find_world(config)
    result: dict[str, Any] = {"parameters": {**counts, "total": sum(counts.values())}}
    if world is not None:
        result["cache_bytes"] = cache_bytes(world)
    if isinstance(config, TrainConfig):
        result["training_bytes"] = training_bytes(config, counts)
    return result


def cache_bytes(world: WorldConfig) -> dict[str, int]:
    """Keys and values in bfloat16 that one endless stream keeps, by relation."""
    net = on_meta(world.net)
    assert isinstance(net, WorldNet)
    order, _, _ = world.system()
    sizes: dict[str, int] = {}
    for name, shape in net.ring_shapes().items():
        layers, heads, width = RingShape(*shape)
        sizes[name] = 2 * layers * (order.relations[name].capacity or 0) * heads * width * CACHE_BYTES
    return {**sizes, "total": sum(sizes.values())}


def training_bytes(config: TrainConfig, counts: dict[str, int]) -> dict[str, int | None]:
    """See `budget`."""
    if not isinstance(config.method, TrainWorldConfig):
        return {"states": STATE_BYTES * sum(counts.values()), "activations": None}
    method = config.method
    frozen = [name for name, part in components(config).items() if part == method.world.tokenizer]
    trained = sum(count for name, count in counts.items() if name not in frozen)
    height, width = method.world.sites
    slots = len(method.stream.rows(method.clip_frames)) * height * width
    batch = config.data.batch if isinstance(config.data, LatentClipsConfig) else 1
    net = method.world.net.backbone
    states, activations = STATE_BYTES * trained, SLOT_BYTES * batch * slots * net.depth * net.width
    return {"states": states, "activations": activations, "total": states + activations}
