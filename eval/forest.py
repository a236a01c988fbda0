"""A forest plot: one line per figure with the mean and the interval of a gain, on one common scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vidar.eval.report import Mood

ROOM = 1.08  # of the widest interval


@dataclass(frozen=True)
class Line:
    """A figure: its name, the gain and its interval on the common scale, what is written beside it, and its mood."""

    name: str
    gain: float
    low: float
    high: float
    told: str
    mood: Mood = ""


def forest(lines: Sequence[Line], left: str, right: str) -> str:
    """The plot as a piece of HTML; left, right: the meaning of both directions from 0."""
    widest = max(max(abs(line.low), abs(line.high), abs(line.gain)) for line in lines) * ROOM or 1.0

    def at(value: float) -> str:
        return f"{50 + 50 * value / widest:.2f}%"

    rows = []
    for line in lines:
        wide = f"{50 * (line.high - line.low) / widest:.2f}%"
        bar = f'<i style="left:{at(line.low)};width:{wide}"></i><u style="left:{at(line.gain)}"></u>'
        track = f'<s title="{escape(line.told)}">{bar}</s>'
        rows.append(
            f'<b>{escape(line.name)}</b><div class="{line.mood or "none"}">{track}<em>{escape(line.told)}</em></div>'
        )
    head = f'<b></b><div class="ends"><span>{escape(left)}</span><span>{escape(right)}</span></div>'
    return f'<div class="wide forest">{head}{"".join(rows)}</div>'
