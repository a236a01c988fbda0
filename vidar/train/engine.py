"""The engine of a run: moves batches to the device and turns a loss into an optimiser step.

The loop and the methods do not depend on either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vidar.nn.precision import fast_dtype
from vidar.rng import Rng
from vidar.train import checkpoint
from vidar.train.checkpoint import Counters
from vidar.train.config import TrainConfig
from vidar.train.ema import Ema
from vidar.train.ranks import ALONE, Ranks


class Engine(Protocol):
    """One per process. model: the model that is trained, on `device`. ranks: all processes of the run."""

    model: nn.Module
    device: torch.device
    ranks: Ranks

    def averaged(self) -> nn.Module:
        """The whole model with averaged weights. All ranks must call this; only rank 0 uses the result."""
        ...

    def seed(self, index: int) -> None:
        """Seed torch's own generators (dropout) for batch `index` of the run."""
        ...

    def forward(self) -> AbstractContextManager[Any]:
        """A context for forward passes, which sets the precision of the run."""
        ...

    def move(self, batch: Any) -> Any:
        """The batch with its tensors on the device of the model."""
        ...

    def step(self, loss: Tensor, lr: float, count: int) -> Tensor | None:
        """Update the weights and their average with the gradient of a scalar; returns its norm before clipping.

        count: number of earlier steps. Returns None, and changes nothing, if loss or gradient are not finite on a rank.
        """
        ...

    def save(self, folder: Path, counters: Counters) -> Path:
        """Write a checkpoint (`vidar.train.checkpoint.write`) and delete the oldest. Raises VidarError on failure."""
        ...

    def load(self, path: Path) -> Counters:
        """Restore a checkpoint in place. Raises VidarError if it does not fit."""
        ...


@runtime_checkable
class HasRunningStats(Protocol):
    """A module that counts what it sees within a step: a codebook its hits, an adversary its scores.

    Choice: the engine finds these modules in the model, whatever the method, so no method can forget to update them.
    """

    def update(self) -> None:
        """Apply the collected statistics, once per optimiser step."""
        ...

    def forget(self) -> None:
        """Discard the collected statistics, because the step was skipped."""
        ...


class PlainEngine:
    """One process, one device, AdamW."""

    def __init__(self, config: TrainConfig, model: nn.Module, device: torch.device) -> None:
        self.config, self.model, self.device = config, model, device
        auto = fast_dtype(device.type) == torch.bfloat16
        self.bf16 = auto if config.precision == "auto" else config.precision == "bf16"
        self.ranks: Ranks = ALONE
        self.ema = Ema(model, config.ema_decay)
        self.optimizer = config.optim.build(model)
        self.counting = [module for module in model.modules() if isinstance(module, HasRunningStats)]

    def averaged(self) -> nn.Module:
        """See `Engine`."""
        return self.ema.model

    def seed(self, index: int) -> None:
        """Seed from (seed, batch index), so that dropout does not change with a resume, as in EDM2's training loop.

        The generators are set directly, because torch.manual_seed visits every device type (0.2 ms per step).
        """
        word = int(Rng(self.config.seed, index).raw("torch", 0, 0, 1)[0] >> 1)
        torch.default_generator.manual_seed(word)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(word)

    def forward(self) -> torch.autocast:
        """bf16 if the config says so, or for "auto" if the device multiplies it fast."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def move(self, batch: Any) -> Any:
        """See `Engine`."""
        return replace(batch, **{f.name: self._moved(getattr(batch, f.name)) for f in fields(batch)})

    def _moved(self, value: Any) -> Any:
        """A tensor on the device; a mapping, as the extras of clips are, with its tensors there."""
        if isinstance(value, Mapping):
            known = cast(Mapping[str, Any], value)
            return {name: self._moved(one) for name, one in known.items()}
        return value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a scalar, averaged over the ranks."""
        loss.backward()

    def step(self, loss: Tensor, lr: float, count: int) -> Tensor | None:
        """See `Engine`."""
        norm = self._descended(loss, lr)
        for module in self.counting:
            module.forget() if norm is None else module.update()
        if norm is not None:
            self.ema.update(count)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _descended(self, loss: Tensor, lr: float) -> Tensor | None:
        """One optimiser step if loss and gradient are finite; returns the norm of the gradient, otherwise None."""
        if not math.isfinite(self.ranks.mean(loss.detach()).item()):
            return None
        self.backward(loss)
        trained = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm, clip = nn.utils.get_total_norm([p.grad for p in trained]), self.config.optim.clip
        length = norm.item()
        if not math.isfinite(length):
            return None
        if length > clip:
            nn.utils.clip_grads_with_norm_(trained, clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return norm

    def save(self, folder: Path, counters: Counters) -> Path:
        """See `Engine`."""
        path = checkpoint.save(folder, counters, self.model, self.ema, self.optimizer, self.config)
        checkpoint.retain(folder, self.config.keep_checkpoints)
        return path

    def load(self, path: Path) -> Counters:
        """See `Engine`."""
        return checkpoint.load(path, self.model, self.ema, self.optimizer)
