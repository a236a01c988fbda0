"""The governor: how many solver steps a frame gets, so that frames stay in time, and whether a guess still fits."""

from __future__ import annotations

from collections import deque

import numpy as np

from vidar.types import UsageError

SHARE = 0.9  # of a period that a frame may take


class Governor:
    """Between `least` and `most` steps a frame, for frames `period` seconds apart (0: as fast as it goes, `most`).

    A frame is taken to cost what the slowest tenth of the last `keep` frames cost a step. Fewer steps at once where
    that does not fit into 0.9 of a period, but not before a quarter of `keep` is known; more, by one, after `keep`
    frames in which one more would have fitted. Raises UsageError unless 1 <= least <= most.
    """

    def __init__(self, least: int, most: int, period: float, keep: int = 40) -> None:
        if not 1 <= least <= most:
            raise UsageError(f"a frame gets 1 to {most} steps in this world, not {least}")
        self.least, self.most, self.period, self.keep = least, most, period, keep
        self.steps = most
        self.each: deque[float] = deque(maxlen=keep)
        self.easy = 0  # frames in a row that had room for one more step

    def cost(self, steps: int | None = None) -> float:
        """Seconds a frame of so many steps may take; 0 before the first one."""
        return float(np.percentile(list(self.each), 90, method="lower")) * (steps or self.steps) if self.each else 0.0

    def spent(self, seconds: float, steps: int) -> None:
        """A frame of `steps` took that long; decides the steps of the next one."""
        self.each.append(seconds / steps)
        if not self.period or len(self.each) < self.keep // 4:
            return
        room = SHARE * self.period
        while self.steps > self.least and self.cost() > room:
            self.steps, self.easy = self.steps - 1, 0
        self.easy = self.easy + 1 if self.cost(self.steps + 1) <= room else 0
        if self.easy >= self.keep and self.steps < self.most:
            self.steps, self.easy = self.steps + 1, 0
