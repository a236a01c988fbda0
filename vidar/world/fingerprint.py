"""Which world is this: a short name of its config and weights."""

from __future__ import annotations

import hashlib
import json

import torch

from vidar.config import to_dict
from vidar.world.world import World

YOUNGER = ("policy",)  # fields that older worlds have not; where they are empty, they change no name


def fingerprint(world: World) -> str:
    """Of config and weights: 16 hex digits."""
    told = {key: value for key, value in to_dict(world.config).items() if key not in YOUNGER or value is not None}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for module in (world.tokenizer, world.net):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
