"""What a training run takes of memory, known before anything is allocated, and the refusal where there is less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from vidar.train.checks import DryRun, DryRuns
from vidar.train.config import TrainConfig
from vidar.types import UsageError

TRAINED_BYTES = 20  # fp32 weight, gradient, two moments of Adam: 16; the averaged weight: 4
FROZEN_BYTES = 8  # weight and its copy in the average
TEACHER_BYTES = 4  # a weight that is no part of what is trained
PEAK = 1.4  # what a backward pass holds for an instant, and the allocator's slack; Choice: measured, see below
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def training_bytes(config: TrainConfig) -> dict[str, int | None]:
    """states: weights, gradients, moments, average; activations: the most that one step holds; total.

    teacher: of a student, the world that it learns from; its activations are among those of the step.

    A step runs on tensors without storage; every distinct storage that autograd keeps is counted in fp32, times 1.4.
    With bf16, or compiled, it is less. Cached data is not counted. null where the method is unknown, or the frame size
    because the data is not there.

    Growth of the resident memory of a CPU process over 6 steps in fp32, beside the total, in MB: world_doom batch 6
    943 (978), 24 3,243 (3,358), 48 5,900 (6,530); tokenizer_doom batch 6 100 (86), 48 434 (422).
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
    """Bytes of the storages that the graph of `call()` keeps, without those of the model."""
    own = {_address(tensor.untyped_storage()) for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if (address := _address(storage)) not in own:
            found[address] = storage  # held, so that no other storage takes its address
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for storage in found.values())


def _address(storage: torch.UntypedStorage) -> int:
    """Of the object, as a storage without memory has no other."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage]


def dry_run(config: TrainConfig) -> DryRun | None:
    """The model without storage and a step of it; None where the method cannot say, or the data has no batches."""
    if isinstance(config.method, DryRuns) and hasattr(config.data, "batch"):
        return config.method.dry_run(config.data)
    return None


def check_memory(config: TrainConfig, device: torch.device) -> None:
    """Raises UsageError where the estimate is more than the device has left."""
    free = available(device)
    needed = training_bytes(config)["total"] if config.check_memory and free is not None else None
    if needed is not None and free is not None and needed > free:
        raise UsageError(
            f"training needs about {needed / 1e9:.1f} GB and {device} has {free / 1e9:.1f} GB left; take a smaller "
            "data.batch or preset (check_memory=false tries all the same)"
        )


def available(device: torch.device) -> int | None:
    """Bytes that can still be allocated, or None where the system does not say."""
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
