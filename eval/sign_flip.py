"""Sign-flip test of paired differences, and Holm's correction for several tests.

If two models are equally good, the difference at a start could as well have had the other sign (Fisher, The Design of
Experiments, 1935, section 21). The p-value is the share of all 2^N choices of signs whose sum is at least as far from
0 as the one that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EXACT = 16  # differences up to which all signs are listed
DRAWN = 100_000  # choices of signs otherwise
EQUAL = 1e-12  # relative difference within which two sums are equal, which rounding may tell apart


class PValue(NamedTuple):
    """A two-sided p-value and the standard error of its Monte-Carlo estimate; 0 for an exact one."""

    value: float
    error: float


def sign_flip(differences: np.ndarray, seed: int = 0, draws: int = DRAWN) -> PValue:
    """The sign-flip test of float [N]. Zeros carry no sign, and are left out; without other numbers p is 1.

    Up to 2^16 choices of signs are listed; of more, `draws` are drawn with Philox, and p = (1 + hits) / (1 + draws)
    (Phipson and Smyth, Permutation p-values should never be zero, 2010, eq. 2).
    """
    kept = np.asarray(differences, dtype=np.float64)
    kept = kept[kept != 0.0]
    if len(kept) == 0:
        return PValue(1.0, 0.0)
    least = abs(math.fsum(kept)) - EQUAL * math.fsum(np.abs(kept))
    if len(kept) <= EXACT:
        sums = np.zeros(1)
        for number in kept:
            sums = np.concatenate([sums + number, sums - number])
        return PValue(float(np.mean(np.abs(sums) >= least)), 0.0)
    random = np.random.Generator(np.random.Philox(seed))
    sums = np.zeros(draws)
    for number in kept:  # one start after another: the order of the sum does not depend on the machine
        sums += np.where(random.integers(0, 2, draws, dtype=np.int8) == 1, number, -number)
    share = (1.0 + float(np.count_nonzero(np.abs(sums) >= least))) / (1.0 + draws)
    return PValue(share, math.sqrt(share * (1.0 - share) / draws))


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, A simple sequentially rejective multiple test procedure, 1979)."""
    corrected, worst = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        worst = max(worst, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = worst
    return corrected
