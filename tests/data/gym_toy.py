"""A small environment whose observations, pictures and actions a test chooses."""

import gymnasium
import numpy as np
from gymnasium import spaces


def picture(t, height=40, width=48):
    """Colours that change from frame to frame; every value of 0 .. 255 occurs."""
    values = np.arange(height * width * 3, dtype=np.int64) * 7 + 31 * t
    return (values % 256).astype(np.uint8).reshape(height, width, 3)


class Toy(gymnasium.Env):
    """observe(t) and draw(t) make what it observes and renders after t steps; it is over after `length` steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None, observe=None, draw=None, action=None, space=None, length=None):
        self.render_mode, self.t, self.length = render_mode, 0, length
        self.observe, self.draw, self.taken = observe or (lambda t: np.zeros(3, np.float32)), draw or picture, []
        self.action_space = action or spaces.Discrete(3)
        first = self.observe(0)
        if space is None and isinstance(first, np.ndarray):
            space = spaces.Box(0, 255, first.shape, first.dtype)
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.taken = 0, []
        return self.observe(0), {}

    def step(self, action):
        self.taken.append(action)
        self.t += 1
        return self.observe(self.t), 0.5, self.t == self.length, False, {}

    def render(self):
        return None if self.render_mode is None else self.draw(self.t)
