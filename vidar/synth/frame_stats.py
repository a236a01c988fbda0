"""A long video at a glance: curves over time, and a strip of small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vidar.data.atomic import replacing

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
UNITS = {"brightness": "mean luma", "contrast": "deviation of luma", "sharpness": "variance of the Laplacian"}
THUMBS, TALLEST = 8, 180  # number of pictures in a strip; their largest height in pixels


def frame_stats(frames: np.ndarray) -> dict[str, list[float]]:
    """Curves of frames uint8 [T, H, W, 3], T numbers for each name in UNITS, defined as in `vidar eval`.

    Sharpness uses the Laplacian 0 1 0 / 1 -4 1 / 0 1 0 over the inner pixels; it is 0 if there are none.
    """
    curves: dict[str, list[float]] = {name: [] for name in UNITS}
    for frame in frames:
        luma = frame.astype(np.float64) @ np.array(LUMA)
        inner = luma[1:-1, 1:-1]
        edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
        values = luma.mean(), luma.std(), edges.var() if edges.size else 0.0
        for curve, value in zip(curves.values(), values, strict=True):
            curve.append(round(float(value), 3))
    return curves


def strip_frames(total: int) -> list[int]:
    """Numbers of the frames of a strip: evenly spaced, including the first and the last, without repetition."""
    return sorted({round(n * (total - 1) / (THUMBS - 1)) for n in range(THUMBS)})


def write_strip(file: Path, pictures: Sequence[np.ndarray]) -> None:
    """Write pictures uint8 [H, W, 3], made small and put side by side, as png."""
    height, width = pictures[0].shape[:2]
    high = min(height, TALLEST)
    size = max(1, round(width * high / height)), high
    small = [Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    sheet = Image.new("RGB", (size[0] * len(small), high))
    for number, picture in enumerate(small):
        sheet.paste(picture, (number * size[0], 0))
    with replacing(file) as temporary:
        sheet.save(temporary, format="png")


def write_drift(file: Path, curves: Mapping[str, Sequence[float]], fps: float, title: str) -> None:
    """Write the curves over time as png, one below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6))
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(curves), 1, sharex=True)
    figure.subplots_adjust(
        left=0.12, right=0.98, top=0.95, bottom=0.08, hspace=0.1
    )  # measuring text takes as long again
    for axis, (name, values) in zip(axes, curves.items(), strict=True):
        seconds = (np.arange(len(values)) + 1) / fps
        axis.plot(seconds, values, linewidth=0.6, color="tab:gray")
        second = max(1, round(fps))
        if len(values) > 2 * second:
            mean = np.convolve(values, np.ones(second) / second, mode="valid")
            middle = seconds[second - 1 :] - (second - 1) / (2 * fps)
            axis.plot(middle, mean, linewidth=1.5, color="tab:blue")
        axis.set_ylabel(f"{name}\n({UNITS[name]})")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_title(f"{title}: every frame, and means over one second")
    axes[-1].set_xlabel("seconds")
    with replacing(file) as temporary:
        canvas.print_figure(temporary, format="png", dpi=80)
