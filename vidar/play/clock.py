"""Time in play: when the next frame is due, and what the last ones took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np


class Clock:
    """Due times one period apart; fps None: a frame is always due. After a stall of over a period it starts anew."""

    def __init__(self, fps: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self.period = 0.0 if fps is None else 1.0 / fps
        self.now = now
        self.due = now()

    def left(self) -> float:
        """Seconds until the next frame is due, 0 where it is."""
        return max(0.0, self.due - self.now()) if self.period else 0.0

    def tick(self) -> None:
        """The frame that was due is taken up."""
        now = self.now()
        self.due = now if now - self.due > self.period else self.due
        self.due += self.period


class Meter:
    """The latest frames of a stream: rate, milliseconds of what was measured, share of late ones.

    All figures are over the last `keep` frames.
    """

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
        """Something took that long."""
        self.spent.setdefault(what, deque(maxlen=self.keep)).append(seconds)

    def figures(self) -> dict[str, float]:
        """frames, fps, late (share), and p50 and p95 in ms of each measured thing."""
        span = self.stamps[-1] - self.stamps[0] if len(self.stamps) > 1 else 0.0
        told = {
            "frames": float(self.frames),
            "fps": (len(self.stamps) - 1) / span if span > 0 else 0.0,
            "late": float(np.mean(self.late)) if self.late else 0.0,
        }
        for what, values in self.spent.items():
            for q in (50, 95):
                told[f"{what}_ms_p{q}"] = 1e3 * float(np.percentile(list(values), q))
        return told
