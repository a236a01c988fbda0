"""A whole clip of a finite order, wave by wave: an image, or a video of a fixed length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidar.rng import Rng
from vidar.rollout.setting import Setting
from vidar.rollout.tape import tell
from vidar.rollout.task import Task


@torch.inference_mode()
def make_clip(
    setting: Setting, told: Any, rngs: Sequence[Rng], known: Mapping[int, Tensor]
) -> tuple[dict[int, Tensor], list[float]]:
    """Codes [B, n, ..] of every unit, and the seconds of each call.

    told: `vidar.conditioning.config.Told` of each video, or what the conditioner reads. known: unit -> codes that stay.
    """
    cond = tell(setting, told, None)
    task = Task(setting.system, setting.network, rngs, lambda layout: cond, setting.guidance, setting.policy)
    for unit, codes in known.items():
        task.give(unit, codes)
    return {**known, **task.run(fused=False)}, task.seconds
