"""Setting: everything that a rollout needs of a model."""

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
from vidar.rollout.memory import Memory
from vidar.sampling.guidance import GuideConfig
from vidar.types import Model


@dataclass(frozen=True)
class Network:
    """The network of a rollout: its forward function, and the rings, dtype and device of its state."""

    call: Model
    rings: Mapping[str, RingShape]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Setting:
    """Everything that a rollout needs of a model.

    steps        network calls per frame
    faster       returns the objective with another number of calls
    context      maximum number of context frames
    frame_shape  sites and channels of the code of a frame, (n, C)
    rest         float [A], the action with no key pressed
    conditioner  builds the conditioner's record from prompt, label and actions; None: no conditions
    guidance     classifier-free guidance on the conditions; doubles the batch of every call
    policy       cache policy: which slots are evicted between calls; None: those that the order forgets
    memory       what is remembered beyond the window and shown to the network; None: nothing
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
    memory: Memory | None = None
