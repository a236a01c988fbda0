"""Pictures of a run in its folder: how the loss falls, and samples of the model over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vidar.data.atomic import replacing
from vidar.data.video import read_video
from vidar.train.log import read_log

MINUTES = (1.0, 2.0, 5.0, 10.0)  # of training, after which a run shows its pictures, besides the end
LOSS = "loss.png"
MOMENTS = 4  # frames of a strip
GAP = 4  # pixels between them


def draw_loss(log: Path, file: Path) -> None:
    """Plot the loss of a log over the steps. Raises VidarError if the file cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = [record for record in read_log(log) if record.get("loss") is not None]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    losses = [record["loss"] for record in records]
    axes.plot([record["step"] for record in records], losses, marker="." if len(records) < 20 else "")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if losses and min(losses) > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    with replacing(file) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def strip(video: Path, file: Path) -> None:
    """Write moments of a video as one picture, the first above. Raises VidarError if the file cannot be written."""
    frames = read_video(video)[0]
    moments = np.linspace(0, len(frames) - 1, min(MOMENTS, len(frames))).round().astype(int)
    gap = np.full((GAP, *frames.shape[2:]), 255, np.uint8)
    rows = [part for moment in moments for part in (gap, frames[moment])][1:]
    with replacing(file) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "png")
