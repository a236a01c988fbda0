"""Estimate the memory of a training run before anything is allocated, and refuse to start if there is too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from vidar.train.checks import DryRun, DryRuns
from vidar.train.config import TrainConfig
from vidar.types import UsageError

TRAINED_BYTES = 20  # fp32 weight, gradient and two moments of Adam (16), and the averaged weight (4)
FROZEN_BYTES = 8  # a frozen weight and its copy in the averaged model
TEACHER_BYTES = 4  # a weight of the teacher, which is not part of the trained model
PEAK = 1.4  # temporary buffers of a backward pass, and slack of the allocator; Choice: see docs/notes/training.md
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def training_bytes(config: TrainConfig) -> dict[str, int | None]:
    """Estimated bytes by part. Measured runs: docs/notes/training.md.

    states: weights, gradients, moments, average. teacher: weights of a student's teacher (its activations count for
    the step). activations: maximum of one step. total: the sum. A step runs on tensors without storage (device "meta");
    every distinct storage that autograd keeps is counted in fp32, times 1.4. bf16 or compiled runs need less. Cached
    data is not counted. A value is None if the method cannot say, or if the data is missing and the frame size unknown.
    """
    run = dry_run(config)
    if run is None:
        return {"states": None, "activations": None, "total": None}
    model, beside = run.model, dict[str, int]()
    if run.teacher is not None:
        beside["teacher"] = TEACHER_BYTES * sum(p.numel() for p in run.teacher.parameters())
    known = model if run.teacher is None else nn.ModuleList([model, run.teacher])
    activations = None if run.step is None else round(PEAK * kept_bytes(known, run.step))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    states = TRAINED_BYTES * trained + FROZEN_BYTES * frozen
    return {
        "states": states,
        **beside,
        "activations": activations,
        "total": None if activations is None else states + sum(beside.values()) + activations,
    }


def kept_bytes(model: nn.Module, call: Any) -> int:
    """Bytes of the storages that the autograd graph of `call()` keeps, without those of the model."""
    own = {_address(tensor.untyped_storage()) for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if (address := _address(storage)) not in own:
            found[address] = storage  # kept alive, so that no other storage gets its address
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for storage in found.values())


def _address(storage: torch.UntypedStorage) -> int:
    """The address of the storage object, because a storage without memory has no data address."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage]


def dry_run(config: TrainConfig) -> DryRun | None:
    """The model on the device "meta" and one step; None if the method has no dry run, or the data has no batches."""
    if isinstance(config.method, DryRuns) and hasattr(config.data, "batch"):
        return config.method.dry_run(config.data)
    return None


def check_memory(config: TrainConfig, device: torch.device) -> None:
    """Raises UsageError if the estimate exceeds the free memory of the device."""
    free = available(device)
    needed = training_bytes(config)["total"] if config.check_memory and free is not None else None
    if needed is not None and free is not None and needed > free:
        raise UsageError(
            f"training needs about {needed / 1e9:.1f} GB and {device} has {free / 1e9:.1f} GB left; use a smaller "
            "data.batch or preset (check_memory=false starts anyway)"
        )


def available(device: torch.device) -> int | None:
    """Bytes that can still be allocated, or None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None
    try:  # a container
        return min(free, int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # none, or "max"
        return free
