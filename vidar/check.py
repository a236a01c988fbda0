"""Check a training config before anything expensive runs: its parts must fit each other and the data on disk."""

from __future__ import annotations

import os
from typing import Any

import torch

from vidar.data.index import Index, load_index
from vidar.train.checks import Checks, ChecksData, OnDisk
from vidar.train.config import TrainConfig
from vidar.types import UsageError


def check_training(config: Any) -> TrainConfig:
    """Return the config if it can be trained. Raises UsageError or VidarError naming the key or file."""
    if not isinstance(config, TrainConfig):
        raise UsageError(f"{type(config).__name__} is not a training run; `vidar systems` lists the recipes")
    method, data = config.method, config.data
    if isinstance(method, Checks):
        method.check(data)
    index = _index(data) if isinstance(data, OnDisk) else None
    if isinstance(method, ChecksData):
        method.check_data(data, index)
    return config


def _index(data: OnDisk) -> Index:
    """The index of the data. Raises UsageError if the data lacks the split."""
    index = load_index(data.path)
    if data.split not in index.splits():
        raise UsageError(f"{data.path}: has no split {data.split!r}; it has {', '.join(index.splits()) or 'none'}")
    return index


def check_alone() -> None:
    """Raises UsageError if a launcher such as torchrun has started this command as one of several processes."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size.isdecimal() and int(size) > 1:
        raise UsageError(f"WORLD_SIZE is {size}: vidar trains in one process so far; start it without torchrun")


def check_device(name: str) -> str:
    """Return the device if it exists here. Raises UsageError otherwise."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return name
