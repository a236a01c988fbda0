"""Fingerprint of a model: a short hash of its config and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import torch

from vidar.config import first_type, to_dict
from vidar.model.model import VideoModel

YOUNGER = ("policy", "frames", "classes", "memory")  # fields that older models lack; empty ones do not change the hash
YOUNGER_PARTS = {"objective": ("shown",)}  # and those of their parts


def fingerprint(model: VideoModel) -> str:
    """The hash of config and weights: 16 hex digits. A model without its memory has another one than with it."""
    told = {key: value for key, value in _named(to_dict(model.config)).items() if key not in YOUNGER or value}
    for part, names in YOUNGER_PARTS.items():
        told[part] = {key: value for key, value in told[part].items() if key not in names or value}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for module in (model.tokenizer, model.net, *(() if model.memory is None else (model.memory,))):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _named(told: Any) -> Any:
    """The same data with the oldest name of every type, so that moving a class changes no fingerprint."""
    if isinstance(told, Mapping):
        mapping = cast(Mapping[str, Any], told)
        return {key: first_type(value) if key == "type" else _named(value) for key, value in mapping.items()}
    return [_named(item) for item in cast(list[Any], told)] if isinstance(told, list) else told
