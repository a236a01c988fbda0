"""The governor chooses the number of solver steps per frame so that the frame rate holds."""

from __future__ import annotations

from collections import deque

import numpy as np

from vidar.types import UsageError

SHARE = 0.9  # the part of a period that a frame may take


class Governor:
    """Gives a frame `least` to `most` steps; frames are `period` seconds apart (0: no limit, always `most`).

    The cost per step is the 90th percentile of the last `keep` frames. If the frame does not fit into 0.9 of a period,
    the steps are reduced at once, but not before a quarter of `keep` frames is known; they are raised by one after
    `keep` frames in a row that had time for one more. Raises UsageError unless 1 <= least <= most.
    """

    def __init__(self, least: int, most: int, period: float, keep: int = 40) -> None:
        if not 1 <= least <= most:
            raise UsageError(f"a frame gets 1 to {most} steps in this world, not {least}")
        self.least, self.most, self.period, self.keep = least, most, period, keep
        self.steps = most
        self.each: deque[float] = deque(maxlen=keep)
        self.easy = 0  # frames in a row that had room for one more step

    def cost(self, steps: int | None = None) -> float:
        """The expected seconds of a frame with so many steps (default: the present number); 0 before the first one."""
        return float(np.percentile(list(self.each), 90, method="lower")) * (steps or self.steps) if self.each else 0.0

    def spent(self, seconds: float, steps: int) -> None:
        """Note the seconds of a frame with `steps` steps, and choose the steps of the next one."""
        self.each.append(seconds / steps)
        if not self.period or len(self.each) < self.keep // 4:
            return
        room = SHARE * self.period
        while self.steps > self.least and self.cost() > room:
            self.steps, self.easy = self.steps - 1, 0
        self.easy = self.easy + 1 if self.cost(self.steps + 1) <= room else 0
        if self.easy >= self.keep and self.steps < self.most:
            self.steps, self.easy = self.steps + 1, 0
