"""Doom's walk in the open, to tell in which steps of the real game a wall stopped or bent it.

A game runs in tics. In each tic the keys add their thrust to the velocity, the place changes by the velocity, and
friction then takes a part of it (ZDoom: thrust 25 / 32 forward and 24 / 32 sideways, friction 0.90625).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from vidar.config import Config
from vidar.nn.inverse_dynamics import Axis


class Walking(Config):
    """tics: of a frame. ahead, left: map units per tic that a key adds to the velocity. friction: what remains of it.

    tolerance: map units by which a free step may differ from the rule. Choice: 0.5; free steps differ by at most 0.01,
    but for the steps in which a turn becomes faster, and the first step into a wall by 1 and more.
    """

    tics: int = Field(default=2, ge=1)
    ahead: float = Field(default=25 / 32, gt=0)
    left: float = Field(default=24 / 32, gt=0)
    friction: float = Field(default=0.90625, gt=0, lt=1)
    tolerance: float = Field(default=0.5, gt=0)

    def free(self, poses: np.ndarray, keys: Mapping[Axis, np.ndarray]) -> np.ndarray:
        """Whether each step of the game was as in the open: poses [E, 1+T, 4], keys [E, T] of an axis -> bool [E, T].

        keys: 1, 0 or -1 per step, "ahead" and "left". A step is compared with what the step before and the keys of both
        lead to. Choice: the first step, which has none before it, is free if the second is.
        """
        step = np.diff(poses[..., :2].astype(np.float64), axis=1)  # [E, T, 2]
        push = self._pushes(poses, keys)  # [E, T, tics, 2]
        slow = self.friction ** np.arange(2 * self.tics)
        coming = slow[self.tics] * step[:, :-1]
        for tic in range(
            self.tics
        ):  # velocity after tic i: those of the frame before, slowed down, and all pushes since
            for other in range(self.tics):
                if other <= tic:
                    coming = coming + slow[tic - other] * push[:, 1:, other]
                else:
                    coming = coming + slow[self.tics + tic - other] * push[:, :-1, other]
        free = np.linalg.norm(step[:, 1:] - coming, axis=-1) <= self.tolerance
        return np.concatenate([free[:, :1], free], axis=1)

    def _pushes(self, poses: np.ndarray, keys: Mapping[Axis, np.ndarray]) -> np.ndarray:
        """The change of the velocity in each tic, [E, T, tics, 2]; a turn is even within a frame, and comes first."""
        angle = np.deg2rad(poses[..., 3].astype(np.float64))
        turn = (np.diff(angle, axis=1) + np.pi) % (2 * np.pi) - np.pi
        part = np.arange(1 - self.tics, 1) / self.tics
        heading = angle[:, 1:, None] + turn[..., None] * part
        ahead, left = (getattr(self, axis) * keys[axis][..., None] for axis in ("ahead", "left"))
        cos, sin = np.cos(heading), np.sin(heading)
        return np.stack([ahead * cos - left * sin, ahead * sin + left * cos], axis=-1)
