"""The config of one training run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vidar.config import Config
from vidar.train.optim import OptimConfig


class TrainConfig(Config):
    """One training run. `method.build()` returns a Method with `build_model()`; `data.build()` has `batch(index)`.

    minutes       time budget: the schedule follows the larger of step / steps and elapsed / minutes, so the learning
                  rate of a run that is bounded by time is annealed too
    out           output directory; default runs/NAME
    precision     auto: bf16 if the device multiplies it fast
    check_memory  refuse to start if the estimate of `vidar budget` exceeds the free memory of the device
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    method: Config
    data: Config
    optim: OptimConfig
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0
    compile: bool = False
    log_every: int = Field(default=50, ge=1)
    save_every_s: float = Field(default=300.0, ge=0)
    sample_every: int = Field(default=0, ge=0)
    keep_checkpoints: int = Field(default=2, ge=2)
    check_memory: bool = True
    minutes: float | None = Field(default=None, gt=0)
    out: str | None = None
