"""When the next frame is due, and how long the last ones took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np


class Clock:
    """Due times one period apart; fps None: a frame is always due. After a stall of over a period it starts again."""

    def __init__(self, fps: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self.period = 0.0 if fps is None else 1.0 / fps
        self.now = now
        self.due = now()

    def left(self) -> float:
        """Seconds until the next frame is due; 0 if it is due."""
        return max(0.0, self.due - self.now()) if self.period else 0.0

    def tick(self) -> None:
        """The frame that was due is being made; compute the next due time."""
        now = self.now()
        self.due = now if now - self.due > self.period else self.due
        self.due += self.period


class Meter:
    """Figures over the last `keep` frames of a stream: rate, share of late frames, and measured times."""

    def __init__(self, keep: int = 600) -> None:
        self.stamps: deque[float] = deque(maxlen=keep)
        self.late: deque[bool] = deque(maxlen=keep)
        self.spent: dict[str, deque[float]] = {}
        self.keep, self.frames = keep, 0

    def frame(self, stamp: float, late: bool) -> None:
        """A frame was ready at `stamp` seconds."""
        self.stamps.append(stamp)
        self.late.append(late)
        self.frames += 1

    def spend(self, what: str, seconds: float) -> None:
        """Note that something took so many seconds."""
        self.spent.setdefault(what, deque(maxlen=self.keep)).append(seconds)

    def figures(self) -> dict[str, float]:
        """frames, fps, late (share), and the p50 and p95 in ms of each measured time."""
        span = self.stamps[-1] - self.stamps[0] if len(self.stamps) > 1 else 0.0
        figures = {
            "frames": float(self.frames),
            "fps": (len(self.stamps) - 1) / span if span > 0 else 0.0,
            "late": float(np.mean(self.late)) if self.late else 0.0,
        }
        for what, values in self.spent.items():
            for q in (50, 95):
                figures[f"{what}_ms_p{q}"] = 1e3 * float(np.percentile(list(values), q))
        return figures
