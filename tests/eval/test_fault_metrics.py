"""What counts as seeing a fault: strictly worse at every step, as printed."""

import numpy as np
import pytest

from vidar.eval.fault_metrics import HEADLINE, METRICS, broken_claims, cell, metric
from vidar.eval.faults import FAULTS


@pytest.mark.parametrize(
    ("name", "values", "falls", "sees", "prefers"),
    [
        ("ssim", [1 - 0.1 * s for s in range(9)], 8, True, False),
        ("ssim", [1.0, 0.9, 0.8, 0.7, 0.7, 0.6, 0.5, 0.4, 0.3], 7, False, False),  # a tie is no step
        ("ssim", [1 - 0.00001 * s for s in range(9)], 1, False, False),  # all are 1.0000 or 0.9999 as printed
        ("psnr", [58.92, 30, 29, 28, 27, 26, 25, 24.001, 24.004], 7, False, False),
        ("ssim", [0.5, 0.6, 0.55, 0.5, 0.45, 0.4, 0.5, 0.6, 0.7], 4, False, True),
        ("frechet/frozen", [0.5 * s for s in range(9)], 8, True, False),  # of a distance, less is better
        ("frechet/frozen", [8.0 - s for s in range(9)], 0, False, True),
        ("endless/motion", [0.0] * 9, 0, False, False),
        ("likeness/new", [1 - 0.1 * s for s in range(9)], 8, True, False),  # a part that no table knows
        ("ssim", [1.0, np.nan, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], 6, False, False),
    ],
)
def test_a_cell(name: str, values: list[float], falls: int, sees: bool, prefers: bool) -> None:
    """Eight steps; all of them must worsen."""
    found = cell(name, values)
    assert (found.falls, found.steps, found.sees, found.prefers) == (falls, 8, sees, prefers)


def test_broken_claims_are_named() -> None:
    """The headline claims all faults; a fault that it does not see is a broken claim, and only that one."""
    good, bad = cell(HEADLINE, [1 - 0.1 * s for s in range(9)]), cell(HEADLINE, [1.0] * 9)
    row = {fault: bad if fault == "loop" else good for fault in FAULTS}
    assert broken_claims({HEADLINE: row}) == [(HEADLINE, "loop")]
    assert metric("likeness/new").claims == frozenset() and metric(HEADLINE) is METRICS[HEADLINE]
