"""The world of shapes as a `gymnasium.Env`."""

from __future__ import annotations

import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vidar.data.synthetic import MOVES, ShapesConfig
from vidar.types import UsageError


class ShapesEnv(gymnasium.Env):
    """Observation: frame uint8 [H, W, 3]. Action: stay, left, right, up or down.

    Truncated after config.frames frames.

    `reset(seed=s)` starts the scene of seed s; the state is info["state"], float32 [num_shapes, 6].
    """

    def __init__(self, config: ShapesConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        if render_mode not in (None, "rgb_array"):
            raise UsageError(f"ShapesEnv has no render_mode {render_mode!r}; use 'rgb_array'")
        self.world = (config or ShapesConfig()).build()
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": self.world.config.fps}
        self.render_mode = render_mode
        size = (self.world.config.height, self.world.config.width, 3)
        self.observation_space = spaces.Box(0, 255, size, np.uint8)
        self.action_space = spaces.Discrete(len(MOVES))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the scene of `seed`, any whole number from 0, or a scene drawn by the generator."""
        seed = None if seed is None else operator.index(seed)
        super().reset(seed=seed)
        self.scene, self.state = self.world.scene(int(self.np_random.integers(2**31)) if seed is None else seed)
        self.time = 0
        return self.scene.render(self.state), {"state": self.state}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one frame."""
        self.state = self.scene.next_state(self.state, int(action))
        self.time += 1
        over = self.time >= self.world.config.frames - 1
        return self.scene.render(self.state), self.scene.reward(self.state), False, over, {"state": self.state}

    def render(self) -> np.ndarray:
        """The current frame."""
        return self.scene.render(self.state)
