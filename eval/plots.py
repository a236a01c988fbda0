"""Plots of a report: curves with intervals in a light and a dark version, and strips of frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Curve:
    """A line over the frame number: values [T], half the width of the interval [T]; reference lines are dashed."""

    name: str
    values: np.ndarray
    half: np.ndarray | None = None
    reference: bool = False


@dataclass(frozen=True)
class Plot:
    """The same picture for light and dark pages, as PNG."""

    light: bytes
    dark: bytes


@dataclass(frozen=True)
class Theme:
    """Colours of a plot; the background stays transparent."""

    ink: str
    grid: str
    lines: tuple[str, ...]  # told apart by people who do not see all colours (after Okabe and Ito 2008)


LIGHT = Theme("#333a45", "#d9dde3", ("#0b6bcb", "#c25a00", "#11865f", "#a1478c", "#6b7280"))
DARK = Theme("#c9d1d9", "#343b45", ("#58a6ff", "#f0a04b", "#3fc79a", "#e08fc8", "#9aa4b2"))


def curves(lines: Sequence[Curve], y_label: str, x_label: str = "generated frame", floor: float | None = None) -> Plot:
    """Curves over the frame number, from 1; `floor` is the lower end of the y axis where it matters."""
    return Plot(*(_draw(lines, y_label, x_label, floor, theme) for theme in (LIGHT, DARK)))


def _draw(lines: Sequence[Curve], y_label: str, x_label: str, floor: float | None, theme: Theme) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.3), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve, colour in zip(lines, theme.lines, strict=False):
        x = np.arange(1, len(curve.values) + 1)
        style, width = ("--", 1.2) if curve.reference else ("-", 1.8)
        axes.plot(x, curve.values, style, color=colour, linewidth=width, label=curve.name)
        if curve.half is not None:
            axes.fill_between(x, curve.values - curve.half, curve.values + curve.half, color=colour, alpha=0.18, lw=0)
    axes.set_xlabel(x_label, color=theme.ink)
    axes.set_ylabel(y_label, color=theme.ink)
    axes.set_xlim(1, max(len(curve.values) for curve in lines))
    if floor is not None:
        axes.set_ylim(bottom=floor)
    axes.tick_params(colors=theme.ink, length=0)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(frameon=False, labelcolor=theme.ink, ncols=2, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()


def strip(videos: Sequence[np.ndarray], columns: Sequence[int], scale: int = 2, gap: int = 4) -> bytes:
    """One row a video (uint8 [T, H, W, 3]), one column a frame number -> PNG; the gaps are transparent."""
    height, width = (side * scale for side in videos[0].shape[1:3])
    size = (len(columns) * (width + gap) - gap, len(videos) * (height + gap) - gap)
    sheet = Image.new("RGBA", size, (0, 0, 0, 0))
    for row, video in enumerate(videos):
        for column, number in enumerate(columns):
            picture = Image.fromarray(video[number]).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
