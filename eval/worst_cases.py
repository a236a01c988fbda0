"""The worst cases of a report: strips of frames with the figure and the seed of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidar.eval.plots import strip
from vidar.eval.report import image

SHOWN = 4


@dataclass(frozen=True)
class Case:
    """One play: who played, the seed of its start, the figure it is judged by, and its videos from top to bottom.

    badness: larger is worse; told: the figure in words; rows: uint8 [1 + T, H, W, 3], the frame at the start first.
    """

    name: str
    seed: int
    badness: float
    told: str
    rows: Sequence[np.ndarray]


def worst_cases(cases: Sequence[Case], seconds: Sequence[float], fps: float, count: int = SHOWN) -> list[str]:
    """Pieces of a section: the `count` worst cases, worst first; of equal ones those that come first in the list.

    seconds: the columns of the strips. The rows are the game above the dream.
    """
    rising = sorted(cases, key=lambda case: -case.badness)[:count]
    heads = [f"{second:g} s" for second in seconds]
    return [
        image(
            strip(case.rows, [min(round(second * fps), len(case.rows[0]) - 1) for second in seconds]),
            f"{case.name}, start {case.seed}: {case.told}. Top row: the game; bottom row: the dream",
            heads,
        )
        for case in rising
    ]
