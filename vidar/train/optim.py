"""AdamW with weight decay on matrices only; linear warm-up times cosine decay."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import nn

from vidar.config import Config

UNDECAYED = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class OptimConfig(Config):
    """The optimiser and its schedule. steps: length of the run. clip: maximum gradient norm."""

    lr: float = Field(gt=0)
    steps: int = Field(ge=1)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """AdamW (Loshchilov, Hutter 2019, algorithm 2) over the trainable parameters of `model`."""
        return torch.optim.AdamW(param_groups(model, self.weight_decay), lr=self.lr, betas=self.betas, fused=True)

    def lr_at(self, step: int, progress: float) -> float:
        """The learning rate of update `step` (from 0) at `progress` in [0, 1] of the run.

        SGDR (Loshchilov, Hutter 2017) eq. 5 over one period. Choice: the warm-up is a factor on the cosine, so that
        a run bounded by time and one bounded by steps share one formula.
        """
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        return self.lr * warm * (self.min_lr_ratio + (1.0 - self.min_lr_ratio) * cosine)


def param_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices with weight decay, and all other parameters.

    Tied parameters appear once, without decay if any of their modules is undecayed. Choice: axes of length 1 do not
    count, so a token [1, 1, D] or a gain [C, 1, 1] is a vector.
    """
    decay: dict[nn.Parameter, bool] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                matrix = parameter.squeeze().ndim >= 2 and not isinstance(module, UNDECAYED)
                decay[parameter] = decay.get(parameter, True) and matrix
    groups = [
        {"params": [p for p, yes in decay.items() if yes], "weight_decay": weight_decay},
        {"params": [p for p, yes in decay.items() if not yes], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
