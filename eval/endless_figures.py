"""Figures of long dreams, as functions of arrays: looks and their real range, motion, survival, acceptance lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidar.eval.frame_metrics import brightness, contrast, sharpness

LOOKS = {"brightness": brightness, "contrast": contrast, "sharpness": sharpness}
CHUNK = 250  # frames that are float64 at one time


@dataclass(frozen=True)
class Sample:
    """One real recording: looks -> [T]; moved: differences of the frame pairs under a pressed key, [n]."""

    looks: Mapping[str, np.ndarray]
    moved: np.ndarray


@dataclass(frozen=True)
class RealRange:
    """Where real frames lie. looks -> (low, high); still: the low quantile of differences under a pressed key."""

    looks: Mapping[str, tuple[float, float]]
    still: float
    frames: int


@dataclass(frozen=True)
class Line:
    """An acceptance line: figure within [least, most]. real: the same figure of real play, where it has one.

    elsewhere: that of the real game under keys that do not fit the place (endless_play.elsewhere), where it was played.
    figure None: not measured, and `why` says so. A figure that is not a number does not pass.
    """

    what: str
    figure: float | None
    least: float = -math.inf
    most: float = math.inf
    real: float | None = None
    why: str = ""
    elsewhere: float | None = None

    @property
    def passed(self) -> bool | None:
        """None where it was not measured."""
        return None if self.figure is None else bool(self.least <= self.figure <= self.most)


def looks(videos: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [E, T, H, W, 3] -> brightness, contrast, sharpness -> float64 [E, T]."""
    parts = [videos[:, start : start + CHUNK] for start in range(0, videos.shape[1], CHUNK)]
    return {name: np.concatenate([measure(part).numpy() for part in parts], 1) for name, measure in LOOKS.items()}


def difference(videos: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Mean absolute difference from the frame before, in grey levels: [E, T, H, W, 3] -> float64 [E, T].

    before: the frames that stand before the first ones, [E, H, W, 3].
    """
    result = np.empty(videos.shape[:2])
    last = before
    for t in range(videos.shape[1]):
        now = videos[:, t]
        result[:, t] = np.abs(now.astype(np.int16) - last).mean((1, 2, 3))
        last = now
    return result


def sample(frames: np.ndarray, pressed: np.ndarray, joins: np.ndarray) -> Sample:
    """A recording, uint8 [T, H, W, 3] with pressed and joins bool [T], as what `real_range` needs of it."""
    moved = difference(frames[None, 1:], frames[None, 0])[0]
    return Sample({name: values[0] for name, values in looks(frames[None]).items()}, moved[(pressed & ~joins)[1:]])


def real_range(samples: Sequence[Sample], quantile: float) -> RealRange:
    """The range from `quantile` to 1 - `quantile` of all real frames together."""
    pooled = {name: np.concatenate([one.looks[name] for one in samples]) for name in LOOKS}
    ends = {name: np.quantile(values, [quantile, 1 - quantile]) for name, values in pooled.items()}
    moved = np.concatenate([one.moved for one in samples])
    still = float(np.quantile(moved, quantile)) if len(moved) else 0.0
    count = sum(len(one.looks["brightness"]) for one in samples)
    return RealRange({name: (float(low), float(high)) for name, (low, high) in ends.items()}, still, count)


def outside(values: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Which values [E, T] lie outside [low, high]: bool [E, T]; one that is not a number does."""
    return ~((values >= band[0]) & (values <= band[1]))


def ratio_of_means(dreamed: np.ndarray, real: np.ndarray, counted: np.ndarray) -> float:
    """Mean of `dreamed` over mean of `real` where `counted`, all [E, T]; nan where nothing moves in real play."""
    level = float(real[counted].mean()) if counted.any() else 0.0
    return float(dreamed[counted].mean()) / level if level > 0 else math.nan


def first_run(bad: np.ndarray, length: int) -> np.ndarray:
    """Number (from 1) of the first frame of the first `length` bad frames in a row: bool [E, T] -> long [E].

    T where there is no such run.
    """
    count = bad.shape[1]
    if count < length:
        return np.full(len(bad), count)
    runs = np.all(np.lib.stride_tricks.sliding_window_view(bad, length, axis=1), axis=-1)
    return np.where(runs.any(1), runs.argmax(1) + 1, count)


def survival(
    look: Mapping[str, np.ndarray], motion: np.ndarray, pressed: np.ndarray, real: RealRange, second: int
) -> dict[str, np.ndarray]:
    """By cause, the first frame (from 1) of the first full second that is no game any more: long [E]; T: it lasts.

    looks  in every frame of the second, brightness, contrast or sharpness lies outside the range of real frames
    still  in every frame of the second a key is down and the difference from the frame before is at most real.still
    look: name -> [E, T]; motion [E, T]; pressed bool [E, T]; second: its frames. Choice: any `second` frames in a row,
    and every one of them: by the mean over a second, real play against a wall would count as standing still.
    """
    strange = np.any([outside(values, real.looks[name]) for name, values in look.items()], axis=0)
    stands = (motion <= real.still) & pressed
    return {"looks": first_run(strange, second), "still": first_run(stands, second)}
