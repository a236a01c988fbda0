"""What a rollout is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vidar.cache.policy import Policy
from vidar.conditioning.config import ConditionerConfig
from vidar.core.objective import Objective
from vidar.core.placement import RingShape
from vidar.core.system import System
from vidar.rollout.codec import Codec
from vidar.sampling.guidance import GuideConfig
from vidar.types import Model


@dataclass(frozen=True)
class Network:
    """What a rollout needs of a network: its calls, the rings of its state, and where these are."""

    call: Model
    rings: Mapping[str, RingShape]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Setting:
    """What a rollout is made of.

    steps        calls of a frame; faster: the objective with another number of them
    context      frames of a context at most
    frame_shape  sites and channels of the code of a frame, (n, C)
    rest         float [A]: nothing is pressed
    conditioner  how what is told becomes what the network reads; None: it is told nothing
    guidance     of what is dreamed, by what is told: it doubles the rows of every call
    policy       what the cache forgets between calls; None: what the order forgets
    """

    name: str
    system: System[Objective]
    network: Network
    codec: Codec
    steps: int
    faster: Callable[[int], Objective]
    context: int
    frame_shape: tuple[int, int]
    rest: Tensor
    conditioner: ConditionerConfig | None = None
    guidance: GuideConfig | None = None
    policy: Policy | None = None
