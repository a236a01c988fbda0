"""Random actions: actions for a video that names none."""

from __future__ import annotations

import numpy as np

from vidar.actions import ActionSpec
from vidar.data.explore import AHEAD, LEFT, RIGHT, ExplorePolicyConfig, HoldPolicyConfig, View
from vidar.rng import Rng

NOTHING = View(np.zeros((1, 1, 3), np.uint8))


def random_actions(spec: ActionSpec, seed: int, frames: int) -> np.ndarray:
    """Actions float32 [frames, A], a function of spec and seed; a longer walk begins with the shorter one.

    Where the spec has a player's keys: mostly forward, with arcs, turns and pauses. Otherwise held random actions.
    """
    walks = {LEFT, RIGHT, AHEAD} <= set(spec.names)
    policy = ExplorePolicyConfig(blind=True).build() if walks else HoldPolicyConfig().build()
    policy.start(spec, Rng(seed))
    return np.stack([policy(NOTHING) for _ in range(frames)])
