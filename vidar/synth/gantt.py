"""A Gantt chart: one row per worker, one bar per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidar.data.atomic import replacing
from vidar.synth.graph import Kind
from vidar.synth.simulate import Span, makespan, utilisation

COLOURS = {Kind.PLAN: "tab:orange", Kind.POP: "tab:blue"}
NAMED = 80  # largest number of bars that are labelled with their segment


def write_gantt(file: Path, spans: Sequence[Span], title: str) -> None:
    """Write the spans of a simulated or a real run as png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    workers = sorted({span.worker for span in spans})
    rows = {worker: row for row, worker in enumerate(workers)}
    begin = min(span.start for span in spans)
    figure = Figure(figsize=(10, min(12.0, 1.5 + 0.35 * len(workers))), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    for kind, colour in COLOURS.items():
        own = [span for span in spans if span.item.kind is kind]
        axis.barh(
            [rows[span.worker] for span in own],
            [span.end - span.start for span in own],
            left=[span.start - begin for span in own],
            color=colour,
            edgecolor="white",
            linewidth=0.5 if len(spans) <= NAMED else 0,
            label=kind.name,
        )
    if len(spans) <= NAMED:
        for span in spans:
            middle = (span.start + span.end) / 2 - begin
            text = f"{span.item.job}.{span.item.segment}" if any(s.item.job for s in spans) else f"{span.item.segment}"
            axis.text(middle, rows[span.worker], text, ha="center", va="center", color="white", fontsize=8)
    axis.set_yticks(range(len(workers)) if len(workers) <= 40 else [], [str(worker) for worker in workers][:40])
    axis.invert_yaxis()
    axis.set_ylabel("worker")
    axis.set_xlabel("seconds")
    told = f"{makespan(spans):.2f} s, {100 * utilisation(spans, len(workers)):.0f} % of {len(workers)} workers' time"
    axis.set_title(f"{title}: {told}")
    figure.legend(loc="outside lower right", ncols=len(COLOURS), fontsize=8)
    with replacing(file) as temporary:
        canvas.print_figure(temporary, format="png", dpi=100)
