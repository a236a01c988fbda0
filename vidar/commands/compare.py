"""The command eval compare: reports of one suite, start by start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vidar.commands import show


def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT",
            help="Two or more report.json files, or their folders; all are compared with the first one.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for compare.html and compare.json.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    as_json: show.Json = False,
) -> None:
    """Compare reports of one suite on the same starts: which figures are better, worse, or cannot be told."""
    from vidar.eval.compare import PAGE, run

    made = run(reports, out, seed)
    show.result(made, as_json, [*_lines(made), f"report  {out / PAGE}"])


def _lines(made: Mapping[str, Any]) -> Iterator[str]:
    first, starts = made["reports"][0]["name"], made["starts"]
    for name, rows in made["rows"].items():
        yield f"{name} against {first}, {starts} starts of suite {made['suite']}"
        width = max(len(row["figure"]) for row in rows)
        for row in rows:
            interval = f"{row['difference']:+.4g} ({row['low']:+.4g} to {row['high']:+.4g})"
            yield f"  {row['figure']:<{width}}  {interval:<36}  p {row['p_holm']:<8.2g}  {row['verdict']}"
    for figure, why in made["left_out"].items():
        yield f"  left out: {figure} ({why})"
