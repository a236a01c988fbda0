"""Figures of long dreams as functions of arrays: frame statistics and their real range, motion, survival, criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidar.eval.frame_metrics import brightness, contrast, sharpness

LOOKS = {"brightness": brightness, "contrast": contrast, "sharpness": sharpness}
CHUNK = 250  # number of frames converted to float64 at a time


@dataclass(frozen=True)
class Sample:
    """One real recording: looks -> [T]; moved: differences of the frame pairs under a pressed key, [n]."""

    looks: Mapping[str, np.ndarray]
    moved: np.ndarray


@dataclass(frozen=True)
class RealRange:
    """The range of real frames. looks -> (low, high); still: the low quantile of differences under a pressed key."""

    looks: Mapping[str, tuple[float, float]]
    still: float
    frames: int


@dataclass(frozen=True)
class Line:
    """An acceptance criterion: figure within [least, most]. real: the same figure for real play, if it exists.

    elsewhere: the figure for the real game under keys that do not fit the place (endless_play.elsewhere), if it was
    played. figure None: not measured, for the reason `why`. A figure that is not a number does not pass.
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
        """Whether the criterion is met; None if it was not measured."""
        return None if self.figure is None else bool(self.least <= self.figure <= self.most)


def looks(videos: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [E, T, H, W, 3] -> brightness, contrast, sharpness -> float64 [E, T]."""
    parts = [videos[:, start : start + CHUNK] for start in range(0, videos.shape[1], CHUNK)]
    return {name: np.concatenate([measure(part).numpy() for part in parts], 1) for name, measure in LOOKS.items()}


def difference(videos: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Mean absolute difference from the previous frame in grey levels: [E, T, H, W, 3] -> float64 [E, T].

    before: the frames that precede the first ones, [E, H, W, 3].
    """
    result = np.empty(videos.shape[:2])
    last = before
    for t in range(videos.shape[1]):
        now = videos[:, t]
        result[:, t] = np.abs(now.astype(np.int16) - last).mean((1, 2, 3))
        last = now
    return result


def sample(frames: np.ndarray, pressed: np.ndarray, joins: np.ndarray) -> Sample:
    """The statistics that `real_range` needs of a recording: uint8 [T, H, W, 3] with pressed and joins bool [T]."""
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
    """Which values [E, T] are outside [low, high], or not numbers: bool [E, T]."""
    return ~((values >= band[0]) & (values <= band[1]))


def ratio_of_means(dreamed: np.ndarray, real: np.ndarray, counted: np.ndarray) -> float:
    """Mean of `dreamed` over mean of `real` where `counted`, all [E, T]; nan if nothing moves in real play."""
    level = float(real[counted].mean()) if counted.any() else 0.0
    return float(dreamed[counted].mean()) / level if level > 0 else math.nan


def first_run(bad: np.ndarray, length: int) -> np.ndarray:
    """Number (from 1) of the first frame of the first `length` consecutive bad frames: bool [E, T] -> long [E].

    T if there is no such run.
    """
    count = bad.shape[1]
    if count < length:
        return np.full(len(bad), count)
    runs = np.all(np.lib.stride_tricks.sliding_window_view(bad, length, axis=1), axis=-1)
    return np.where(runs.any(1), runs.argmax(1) + 1, count)


def survival(
    look: Mapping[str, np.ndarray], motion: np.ndarray, pressed: np.ndarray, real: RealRange, second: int
) -> dict[str, np.ndarray]:
    """By cause, the first frame (from 1) of the first second that no longer looks like the game: long [E]; T: none.

    looks  in every frame of the second, brightness, contrast or sharpness is outside the range of real frames still
    in every frame of the second a key is down and the difference from the previous frame is at most real.still

    look: name -> [E, T]; motion [E, T]; pressed bool [E, T]; second: its number of frames. Choice: any `second`
    consecutive frames, and all of them, because by the mean over a second real play against a wall would count as
    standing still.
    """
    strange = np.any([outside(values, real.looks[name]) for name, values in look.items()], axis=0)
    stands = (motion <= real.still) & pressed
    return {"looks": first_run(strange, second), "still": first_run(stands, second)}
