"""The engine of a run: where a batch is, and how a loss becomes a step. The loop and the methods know neither."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
    """What the loop asks for: one per process. model: what is trained, on `device`. ranks: all processes."""

    model: nn.Module
    device: torch.device
    ranks: Ranks

    def averaged(self) -> nn.Module:
        """The model with the averages of its weights, whole: all ranks ask for it, rank 0 uses it."""
        ...

    def seed(self, index: int) -> None:
        """Seed what torch draws by itself (dropout) in batch `index` of the run."""
        ...

    def forward(self) -> AbstractContextManager[Any]:
        """Within it networks compute, at the precision of the run."""
        ...

    def move(self, batch: Any) -> Any:
        """The record with its tensors where the model is."""
        ...

    def step(self, loss: Tensor, lr: float, count: int) -> Tensor | None:
        """One step of optimiser and average down the gradient of a scalar; its norm before clipping.

        count: of steps before. None where loss or gradient are not finite on any rank: then nothing has changed.
        """
        ...

    def save(self, folder: Path, counters: Counters) -> Path:
        """Write a checkpoint (`vidar.train.checkpoint.write`), drop the oldest. Raises VidarError where it cannot."""
        ...

    def load(self, path: Path) -> Counters:
        """Restore a checkpoint in place. Raises VidarError where it does not fit."""
        ...


@runtime_checkable
class HasRunningStats(Protocol):
    """A module that counts what it sees within a step: a codebook its hits, an adversary its scores.

    Choice: found in the model, whatever the method; a method that trains such a module cannot forget to tell it.
    """

    def update(self) -> None:
        """Take in what was counted, once per optimiser step."""
        ...

    def forget(self) -> None:
        """Drop what was counted: the step was not made."""
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
        """From (seed, batch index), so that dropout and the like survive a resume, as EDM2's loop does.

        The generators are set directly: torch.manual_seed visits every device type, 0.2 ms per step.
        """
        word = int(Rng(self.config.seed, index).raw("torch", 0, 0, 1)[0] >> 1)
        torch.default_generator.manual_seed(word)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(word)

    def forward(self) -> torch.autocast:
        """bf16 where the config says so, or the device is fast at it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def move(self, batch: Any) -> Any:
        """See `Engine`."""
        found = {f.name: getattr(batch, f.name) for f in fields(batch)}
        moved = {k: v.to(self.device, non_blocking=True) for k, v in found.items() if isinstance(v, Tensor)}
        return replace(batch, **moved)

    def backward(self, loss: Tensor) -> None:
        """Leave the gradients of a scalar, averaged over the ranks, at the weights."""
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
        """One step of the optimiser where loss and gradient are finite: the norm of the gradient."""
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
