"""What the fault table asks: every metric with its direction and with the faults that it claims to see.

A metric sees a fault if its printed figure worsens from each strength to the next: `falls` counts these steps, and an
equal figure is no step. Therefore a share of 95 % of the steps of one fault is all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEAST = 0.95  # share of the neighbouring strengths at which a figure worsens
HEADLINE = "likeness"
PART = "likeness/"  # begins the names of its parts


@dataclass(frozen=True)
class Metric:
    """what: its definition. more: whether more is better. digits: after the point, as printed. claims: faults."""

    what: str
    more: bool = True
    digits: int = 4
    claims: frozenset[str] = field(default_factory=frozenset[str])


def _claims(text: str) -> frozenset[str]:
    return frozenset(text.split(", "))


LOOKS = "blur, hue drift, grid, stripes, flicker, wrong scale"
METRICS: Mapping[str, Metric] = {
    HEADLINE: Metric(
        "the ruler's headline: geometric mean of its parts",
        claims=_claims(f"{LOOKS}, freeze, loop, late actions, mirrored actions, room swap"),
    ),
    f"{PART}picture": Metric("frames on the manifold", claims=_claims("blur, hue drift, stripes, flicker")),
    f"{PART}sharp": Metric("sharpness, smaller over larger", claims=_claims("blur, grid, stripes, wrong scale")),
    f"{PART}colours": Metric("common part of the colour histograms", claims=_claims("hue drift, grid, stripes")),
    f"{PART}moves": Metric("change per frame, smaller over larger", claims=_claims("freeze, flicker")),
    f"{PART}steady": Metric("cuts: colours change more than in the game", claims=_claims("flicker, teleport")),
    f"{PART}begins": Metric("error of the first second, over copy-last", claims=_claims("late actions, wrong scale")),
    f"{PART}returns": Metric("a view against itself when it comes back", claims=_claims("room swap")),
    f"{PART}turns": Metric(
        "turns under the keys, read from the pictures", claims=_claims("freeze, late actions, mirrored actions")
    ),
    f"{PART}steps": Metric("steps under the keys, read from the pictures"),
    f"{PART}prompt": Metric("latency of the keys, read from the pictures", claims=_claims("late actions")),
    "psnr": Metric(
        "dB to the game under the same keys",
        digits=2,
        claims=_claims(f"{LOOKS}, freeze, loop, mirrored actions, room swap, teleport"),
    ),
    "ssim": Metric("structural similarity to the game under the same keys, every 16th frame", claims=_claims(LOOKS)),
    "frechet/frozen": Metric("Frechet distance to the unharmed clips, features of the world's own encoder", more=False),
    "frechet/random3d": Metric("the same with a random 3-D network", more=False),
    "vbench/temporal_flickering": Metric("VBench: one minus the mean change of a frame", claims=_claims("flicker")),
    "vbench/motion_smoothness/linear": Metric("VBench, with linear interpolation", claims=_claims("flicker")),
    "vbench/subject_consistency/pixels": Metric("VBench, with mean colours as features", claims=_claims("flicker")),
    "vbench/dynamic_degree/blockmatch": Metric("VBench, with block matching: share of seconds that move"),
    "vbench/motion/blockmatch": Metric("the motion behind it, in pixels of a frame of 256 lines", digits=3),
    "endless/brightness": Metric("share of later frames outside the real range", more=False),
    "endless/contrast": Metric("share of later frames outside the real range", more=False),
    "endless/sharpness": Metric("share of later frames outside the real range", more=False),
    "endless/motion": Metric(
        "change of a frame over that of real play, powers of two from 1", more=False, claims=_claims("freeze, flicker")
    ),
    "endless/survival": Metric("frames until a second no longer looks like the game", digits=1),
}


@dataclass(frozen=True)
class Cell:
    """A metric under a fault: values at the strengths 0..8, the steps at which it worsens, of so many."""

    values: Sequence[float]
    falls: int
    steps: int
    sees: bool
    prefers: bool  # whether it calls the clip with the fault, at its full strength, better than the real one


def metric(name: str) -> Metric:
    """A part of the likeness that is not in the table is a share of which more is better, and claims nothing."""
    return METRICS.get(name, Metric("part of the likeness"))


def cell(name: str, values: Sequence[float]) -> Cell:
    """values: at strengths 0, 1, ..., as measured. A value that is not a number worsens nothing."""
    kind = metric(name)
    sign = 1 if kind.more else -1
    printed = [sign * round(value, kind.digits) for value in values]
    falls = sum(after < before for before, after in zip(printed, printed[1:]))
    steps = len(printed) - 1
    return Cell(values, falls, steps, falls >= LEAST * steps, printed[-1] > printed[0])


def broken_claims(table: Mapping[str, Mapping[str, Cell]]) -> list[tuple[str, str]]:
    """(metric, fault) of every claim that a table [metric][fault] does not bear out."""
    return [
        (name, fault)
        for name, row in table.items()
        for fault in sorted(metric(name).claims & set(row))
        if not row[fault].sees
    ]
