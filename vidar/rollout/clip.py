"""Generate a whole clip (an image, or a video of fixed length) by the waves of a finite order."""

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
    """Returns codes [B, n, ..] by unit, and the duration of each network call in seconds.

    told: one `vidar.conditioning.config.Told` per video, or the conditioner's own record. known: codes of the units
    that are given and stay unchanged.
    """
    cond = tell(setting, told, None)
    task = Task(setting.system, setting.network, rngs, lambda layout: cond, setting.guidance, setting.policy)
    for unit, codes in known.items():
        task.give(unit, codes)
    return {**known, **task.run(fused=False)}, task.seconds
