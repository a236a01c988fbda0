"""Plots of a report: curves with intervals and ranked bars as SVG in the colours of the page, and strips of frames."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from vidar.data.outputs import written_by
from vidar.eval.bootstrap import bootstrap
from vidar.types import UsageError

WIDTH, HEIGHT = 560, 270  # of a plot, in its own units
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40  # margins
TONES = 5  # colours of the page, distinguishable with colour blindness (after Okabe and Ito 2008)
DRAWN = 2_000  # resamples of the interval of a curve
SLICES = 96  # maximum number of places of a plot that show their values


@dataclass(frozen=True)
class Curve:
    """A line over the frame number: values [T], half the width of the interval [T]; reference lines are dashed.

    tone: number of its colour, 0 to 4; None: its position in the list. ends: low [T] and high [T], in place of `half`,
    of an interval that is not symmetric.
    """

    name: str
    values: np.ndarray
    half: np.ndarray | None = None
    reference: bool = False
    tone: int | None = None
    ends: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Low [T] and high [T]; None without an interval."""
        if self.ends is not None or self.half is None:
            return self.ends
        return self.values - self.half, self.values + self.half


@dataclass(frozen=True)
class Plot:
    """svg: the drawing; legend: (name, tone, dashed) of each line."""

    svg: str
    legend: tuple[tuple[str, int, bool], ...] = ()


@dataclass(frozen=True)
class Axis:
    """The x axis of curves: the distance of two values, its name, and a value of it in words."""

    step: float
    label: str
    told: Callable[[float], str]


@dataclass(frozen=True)
class Frame:
    """The mapping from values to positions on the sheet."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, x: float | np.ndarray) -> np.ndarray:
        """x -> units from the left."""
        return LEFT + (np.asarray(x) - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float | np.ndarray) -> np.ndarray:
        """y -> units from the top."""
        return HEIGHT - BOTTOM - (np.asarray(y) - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)


def mean_curve(name: str, values: np.ndarray, tone: int | None = None, seed: int = 0) -> Curve:
    """The mean over the starts of values [E, T] with its 95 % bootstrap interval (`bootstrap`); nan: not measured."""
    count = np.isfinite(values).sum(0)
    means = np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)
    return Curve(name, means, tone=tone, ends=bootstrap(values, seed, DRAWN))


def curves(
    lines: Sequence[Curve],
    y_label: str,
    x_label: str = "generated frame",
    floor: float | None = None,
    fps: float | None = None,
) -> Plot:
    """Curves over the frame number, from 1, or over seconds; `floor` is the lower end of the y axis, if fixed.

    fps: frames per second; value k is then at (k + 1) / fps seconds, and x_label is not used.
    """
    longest = max(len(curve.values) for curve in lines)
    axis = Axis(1.0, x_label, lambda at: f"{x_label} {at:.0f}")
    if fps is not None:
        axis = Axis(1.0 / fps, "seconds", lambda at: f"{at:.2f} s")
    found = np.concatenate([end for curve in lines for end in (curve.values, *(curve.interval or ()))])
    if not np.isfinite(found).any():
        raise UsageError(f"{y_label}: there is no number to draw")
    low, high = float(np.nanmin(found)), float(np.nanmax(found))
    frame = Frame((axis.step, axis.step * max(longest, 2)), _limits(low, high, floor))
    bands, paths, legend = [], [], []
    for place, curve in enumerate(lines):
        tone = place % TONES if curve.tone is None else curve.tone
        x = axis.step * np.arange(1, len(curve.values) + 1)
        if curve.interval is not None:
            bottom, top = (_points(frame, x, end) for end in curve.interval)
            bands.append(f'<polygon class="band t{tone}" points="{" ".join([*top, *reversed(bottom)])}"/>')
        dashed = " dashed" if curve.reference else ""
        points = " ".join(_points(frame, x, curve.values))
        paths.append(f'<polyline class="line t{tone}{dashed}" points="{points}"/>')
        legend.append((curve.name, tone, curve.reference))
    marks = _whole_ticks(longest) if fps is None else ticks(*frame.x, most=8)
    parts = [_axes(frame, y_label, axis.label, marks), *bands, *paths, *_slices(frame, lines, axis)]
    return Plot(_svg(parts, y_label), tuple(legend))


def ranked(values: np.ndarray, y_label: str, x_label: str) -> Plot:
    """One bar per value [N], from the smallest to the largest, coloured by sign."""
    rising = np.sort(values)
    frame = Frame((0.5, len(rising) + 0.5), _limits(min(0.0, float(rising[0])), max(0.0, float(rising[-1])), None))
    zero, wide = float(frame.down(0.0)), 0.78 * (WIDTH - LEFT - RIGHT) / len(rising)
    bars = []
    for place, value in enumerate(rising, 1):
        left, end = float(frame.across(place)) - wide / 2, float(frame.down(value))
        size = f'width="{wide:.1f}" y="{min(zero, end):.1f}" height="{abs(zero - end):.1f}"'
        bars.append(
            f'<rect class="bar t{1 if value < 0 else 0}" x="{left:.1f}" {size}><title>{value:+.2f}</title></rect>'
        )
    return Plot(_svg([_axes(frame, y_label, x_label, _whole_ticks(len(rising))), *bars], y_label))


def strip(videos: Sequence[np.ndarray], columns: Sequence[int], scale: int = 2, gap: int = 4) -> bytes:
    """One row per video (uint8 [T, H, W, 3]) and one column per frame number -> PNG; the gaps are transparent."""
    height, width = (side * scale for side in videos[0].shape[1:3])
    size = (len(columns) * (width + gap) - gap, len(videos) * (height + gap) - gap)
    sheet = Image.new("RGBA", size, (0, 0, 0, 0))
    for row, video in enumerate(videos):
        for column, number in enumerate(columns):
            picture = Image.fromarray(video[number]).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", pnginfo=written_by())
    return buffer.getvalue()


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten, at most `most` of them."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while (high - low) / step > most:
        step *= 2.5 if f"{step:e}".startswith("2") else 2.0
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _limits(low: float, high: float, floor: float | None) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.5
    bottom = low - room if floor is None else min(floor, low)
    return bottom, max(high + room, bottom + 1e-6)


def _whole_ticks(last: int) -> list[float]:
    return [1.0, *(t for t in ticks(1, last, 8) if t > 0.08 * last and t == int(t))]


def _points(frame: Frame, x: np.ndarray, y: np.ndarray) -> list[str]:
    seen = np.isfinite(y)
    return [f"{a:.1f},{b:.1f}" for a, b in zip(frame.across(x[seen]), frame.down(y[seen]))]


def _axes(frame: Frame, y_label: str, x_label: str, marks: Sequence[float]) -> str:
    parts = []
    for value in ticks(*frame.y):
        y = float(frame.down(value))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for value in marks:
        x = float(frame.across(value))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{value:.6g}</text>')
    if frame.y[0] < 0 < frame.y[1]:
        y = float(frame.down(0.0))
        parts.append(f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    middle = (HEIGHT - BOTTOM + TOP) / 2
    turned = f'transform="rotate(-90 12 {middle:.0f})"'
    parts.append(f'<text class="axis" x="12" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    centre = (WIDTH + LEFT - RIGHT) / 2
    parts.append(f'<text class="axis" x="{centre:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _slices(frame: Frame, lines: Sequence[Curve], axis: Axis) -> list[str]:
    """Invisible columns that show, under the pointer, a line and the values of that frame."""
    count = max(len(curve.values) for curve in lines)
    stride = -(-count // SLICES)
    wide = stride * (WIDTH - LEFT - RIGHT) / max(count - 1, 1)
    parts = []
    for k in range(0, count, stride):
        x = float(frame.across(axis.step * (k + 1)))
        told = [f"{c.name}: {_told(c, k)}" for c in lines if k < len(c.values) and not c.reference]
        text = escape("\n".join([axis.told(axis.step * (k + 1)), *told]))
        parts.append(
            f'<g class="slice"><rect x="{x - wide / 2:.1f}" y="{TOP}" width="{wide:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/><line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f"<title>{text}</title></g>"
        )
    return parts


def _told(curve: Curve, k: int) -> str:
    """A value, and its interval if that is not symmetric."""
    ends = "" if curve.ends is None else f" ({curve.ends[0][k]:.4g} to {curve.ends[1][k]:.4g})"
    return f"{curve.values[k]:.4g}{ends}"


def _svg(parts: Sequence[str], label: str) -> str:
    body = "".join(parts)
    return f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>'
