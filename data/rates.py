"""The time stamps of a video -> which of its frames are kept, at one constant rate."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vidar.types import UsageError, VidarError

Stamps = Literal["check", "count"]


def check_rate(fps: float | None, target_fps: float | None, every: int | None, stamps: Stamps) -> float:
    """The rate of the kept frames. Raises UsageError for options that do not go together."""
    for name, rate in (("--fps", fps), ("--target-fps", target_fps)):
        if rate is not None and not 0.01 <= rate <= 1000:
            raise UsageError(f"{name} is {rate:g}, but must be in 0.01 .. 1000 frames per second")
    if every is not None and every < 1:
        raise UsageError(f"--every is {every}, but must be at least 1")
    if every is not None and target_fps is not None:
        raise UsageError("--every and --target-fps both drop frames; give one of them")
    if fps is None and (target_fps is None or stamps == "count"):
        raise UsageError("give --fps, the frames per second of the videos, or --target-fps to go by their time stamps")
    if fps is not None and target_fps is not None and target_fps > fps:
        raise UsageError(f"--target-fps {target_fps:g} is above --fps {fps:g}; frames are dropped, never made up")
    return target_fps or (fps or 0.0) / (every or 1)


def kept_frames(
    times: np.ndarray, fps: float | None, target_fps: float | None, every: int | None, stamps: Stamps, name: str
) -> np.ndarray:
    """Numbers of the kept frames, increasing, int64 [N].

    times: float64 [T], seconds from frame 0. fps: the rate of the video. target_fps: the frame nearest to each multiple
    of 1 / target_fps is kept. every: each `every`-th frame is kept. stamps: whether `times` must agree with fps
    (`check`), or frame n counts as shown at n / fps whatever its time stamp (`count`).
    Raises VidarError naming `name` if the stamps do not agree with fps, or if a frame is shown for too long to find
    another one for each multiple.
    """
    if fps is not None:
        if stamps == "check":
            _check_constant(times, fps, name)
        times = np.arange(len(times)) / fps
    if target_fps is None:
        return np.arange(0, len(times), every or 1)
    if _is_constant(times, target_fps):
        return np.arange(len(times))
    return _nearest(times, target_fps, name)


def _average(times: np.ndarray) -> float:
    return (len(times) - 1) / float(times[-1]) if times[-1] > 0 else 0.0


def _is_constant(times: np.ndarray, fps: float) -> bool:
    """Choice: each step from a frame to the next within half of 1 / fps, and the average rate within 1 %."""
    steps = np.diff(times)
    return bool(np.all(np.abs(steps - 1 / fps) < 0.5 / fps)) and abs(_average(times) - fps) <= 0.01 * fps


def _check_constant(times: np.ndarray, fps: float, name: str) -> None:
    if _is_constant(times, fps):
        return
    average = _average(times)
    if average and _is_constant(times, average):
        fewer = f", or --target-fps {fps:g} without --fps to drop frames" if average > fps else ""
        raise VidarError(f"{name}: runs at {average:.6g} fps, not at {fps:g}; give --fps {average:.6g}{fewer}")
    steps = np.diff(times)
    frame = int(np.argmax(np.abs(steps - 1 / fps))) + 1
    raise VidarError(
        f"{name}: the frame rate is not constant: frame {frame} comes {steps[frame - 1]:.4g} s after the one before, "
        f"not {1 / fps:.4g} s as at {fps:g} fps; --stamps count keeps every frame, each as {1 / fps:.4g} s, and "
        "--target-fps without --fps keeps some frames by their time stamps"
    )


def _nearest(times: np.ndarray, target_fps: float, name: str) -> np.ndarray:
    steps = np.diff(times)
    if not np.all(steps > 0):
        frame = int(np.argmin(steps)) + 1
        raise VidarError(f"{name}: frame {frame} is not later than the one before it; give --fps and --stamps count")
    if _average(times) < target_fps:
        average = f"{_average(times):.6g}"
        raise VidarError(f"{name}: runs at {average} fps, below --target-fps {target_fps:g}; frames are never made up")
    ticks = np.arange(int(times[-1] * target_fps + 1e-6) + 1) / target_fps
    after = np.clip(np.searchsorted(times, ticks), 1, len(times) - 1)
    kept = after - (ticks - times[after - 1] <= times[after] - ticks + 1e-9)
    twice = np.flatnonzero(np.diff(kept) <= 0)
    if len(twice):
        frame = int(kept[twice[0]])
        raise VidarError(
            f"{name}: frame {frame} at {times[frame]:.4g} s would be shown twice at {target_fps:g} fps; give a lower "
            "--target-fps, or keep every frame with --fps and --stamps count"
        )
    return kept
