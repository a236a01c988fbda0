"""Rows of a table -> the actions of frames.

The action of frame t acts between frames t-1 and t, so nothing is known about the action of frame 0. Where frames are
dropped, the rows between two kept frames become one action:

  frame of the video    0     1     2     3     4     5     6
  kept (every third)    0                 1                 2
  rows pooled               [ 1     2     3 ] [ 4     5     6 ]
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from vidar.actions import Action, ActionSpec, mu_law_bins, mu_law_degrees
from vidar.data.tables import Table
from vidar.types import VidarError

Rows = Literal["every", "between", "at"]
Units = Literal["bins", "degrees", "pixels"]


def frames_of_rows(table: Table, times: np.ndarray, rows: Rows | None) -> np.ndarray:
    """The frame that each row of a table leads to, int64 [R], never decreasing; 0 and len(times): not used.

    times: float64 [T], seconds from frame 0 to each frame. rows: `every`: row t leads to frame t, and row 0 is not
    used; `between`: row t leads to frame t + 1, and there is one row less; `at`: row t is the action taken at frame t
    (as VPT and LeRobot store it), so it leads to frame t + 1, and the last row is not used. A column `frame` holds the
    number of the frame instead, a column `time` the seconds since frame 0: the row belongs to the first frame that is
    not earlier.
    Choice: without any of these, one row per frame is read as `every`, and every other count is refused.
    Raises VidarError naming file and line.
    """
    if table.by and rows is not None:
        raise VidarError(f"{table.file}: its column `{table.by}` says where the rows belong; leave out --rows {rows}")
    if table.by == "frame":
        return _by_frame(table, len(times))
    if table.by == "time":
        return _by_time(table, times)
    frames, count = len(times), len(table.values)
    if count != frames - (rows == "between"):
        if rows is None and count == frames - 1:
            remedy = "if each row is the action between two frames, say --rows between"
        else:
            remedy = f"--rows {rows or 'every'} needs {frames - (rows == 'between')}"
        raise VidarError(
            f"{table.file}: {count} rows for {frames} frames; {remedy}; or add a column `frame` or `time` to the table"
        )
    return np.arange(count) + (rows in ("between", "at"))


def _by_frame(table: Table, frames: int) -> np.ndarray:
    previous = -1.0
    for row, frame in enumerate(table.places):
        if frame != np.floor(frame) or not 0 <= frame < frames:
            raise table.problem(row, f"frame {frame:g} is not one of 0 .. {frames - 1}")
        if frame <= previous:
            raise table.problem(row, f"frame {frame:g} comes after frame {previous:g}; one row per frame, in order")
        previous = frame
    return table.places.astype(np.int64)


def _by_time(table: Table, times: np.ndarray) -> np.ndarray:
    """Choice: a row may be later than its frame by a quarter of a frame, because tables round their times."""
    step = float(np.median(np.diff(times)))
    previous = -np.inf
    for row, time in enumerate(table.places):
        if not times[0] - step <= time <= times[-1] + step:
            span = f"0 .. {times[-1]:g} s, counted from frame 0"
            raise table.problem(row, f"time {time:g} is outside the video ({span})")
        if time < previous:
            raise table.problem(row, f"time {time:g} is before the {previous:g} of the row above")
        previous = time
    if not np.all(np.diff(times) > 0):
        raise VidarError(f"{table.file}: the time stamps of the video do not increase, so `time` finds no frame in it")
    return np.searchsorted(times, table.places - step / 4)


def actions_of_frames(
    table: Table, spec: ActionSpec, frames: np.ndarray, kept: np.ndarray, units: Units, degrees_per_pixel: float
) -> np.ndarray:
    """The actions of the kept frames, float32 [N, A]; row 0 is zeros.

    frames: the frame of each row (`frames_of_rows`). kept: int64 [N], increasing numbers of frames. units: of the
    camera columns in the table. Rows between two kept frames are pooled. Raises VidarError naming file and line.
    """
    group = np.searchsorted(kept, frames)
    used = np.flatnonzero((group >= 1) & (group < len(kept)))
    missing = np.setdiff1d(np.arange(1, len(kept)), group[used])
    if len(missing):
        first, last = kept[missing[0] - 1] + 1, kept[missing[0]]
        which = f"frame {last}" if first == last else f"frames {first} .. {last}"
        raise VidarError(f"{table.file}: no row belongs to {which}; every frame after the first needs an action")
    values = table.values[used]
    scale = degrees_per_pixel if units == "pixels" else 1.0
    cameras = [column for column, action in enumerate(spec.actions) if action.kind == "camera"]
    legal = values.astype(np.float32)
    for column in cameras if units != "bins" else ():
        finite = np.isfinite(values[:, column])
        if not finite.all():
            raise table.problem(
                used[int(np.argmin(finite))], f"{spec.names[column]!r} is not a finite number of {units}"
            )
        legal[:, column] = mu_law_bins(values[:, column] * scale, spec.actions[column].size)
    illegal = spec.first_illegal(legal)
    if illegal is not None:
        row, name, problem = illegal
        angle = (
            "; --camera-units converts degrees and pixels"
            if spec.actions[spec.names.index(name)].kind == "camera"
            else ""
        )
        raise table.problem(used[row], f"action {name!r} {problem}{angle}")
    made = np.zeros((len(kept), spec.width), np.float32)
    if not len(used):
        return made
    starts = np.flatnonzero(np.diff(group[used], prepend=-1))
    for column, action in enumerate(spec.actions):
        rows = values[:, column]
        if action.kind == "camera":
            rows = mu_law_degrees(rows, action.size) if units == "bins" else rows * scale
        made[1:, column] = _pooled(action, rows, starts)
    return made


def slow_turns(
    table: Table, spec: ActionSpec, frames: np.ndarray, kept: np.ndarray, units: Units, degrees_per_pixel: float
) -> np.ndarray:
    """Per camera column, the kept frames that it turns before, and those that it turns before by too little for a bin.

    Arguments as for `actions_of_frames`. Returns int64 [2, cameras]; zeros if the table holds bins.
    """
    cameras = [column for column, action in enumerate(spec.actions) if action.kind == "camera"]
    group = np.searchsorted(kept, frames)
    counts = np.zeros((2, len(cameras)), np.int64)
    for number, column in enumerate(cameras if units != "bins" else ()):
        action, scale = spec.actions[column], degrees_per_pixel if units == "pixels" else 1.0
        turns = np.bincount(group, table.values[:, column] * scale, len(kept) + 1)[1 : len(kept)]
        moved = turns != 0
        counts[:, number] = moved.sum(), (moved & (mu_law_bins(turns, action.size) == action.size // 2)).sum()
    return counts


def _pooled(action: Action, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """One value per group of rows, [N]; a group begins at each of `starts`. Camera values are degrees.

    binary: pressed in any row. choice: the most frequent value, of several the latest. camera: the bin of the whole
    turn. continuous: the mean.
    """
    if action.kind == "binary":
        return np.maximum.reduceat(values, starts)
    if action.kind == "camera":
        return mu_law_bins(np.add.reduceat(values, starts), action.size)
    if action.kind == "continuous":
        return np.add.reduceat(values, starts) / np.diff(starts, append=len(values))
    return np.array([_most_frequent(group) for group in np.split(values, starts[1:])])


def _most_frequent(values: np.ndarray) -> float:
    backwards = values[::-1]
    counts = (backwards[:, None] == backwards).sum(1)
    return float(backwards[np.argmax(counts)])
