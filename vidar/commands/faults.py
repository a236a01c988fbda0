"""The command eval faults: which faults, planted in real play, do the metrics see?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show


def faults(
    out: Annotated[Path, typer.Option(help="Folder for faults.html and faults.json.", show_default=False)],
    model: Annotated[str, typer.Option(metavar="MODEL", help="World whose game is played.")] = "doom",
    starts: Annotated[
        int | None, typer.Option(min=2, help="Places from which each player begins (default: 3).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Length of every play (default: 8).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one for each core).")] = None,
    docs: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as Markdown.")] = None,
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:
    """Plant faults in real play, and tell which of them each metric sees. The same command again continues."""
    from vidar.data.cache import keep_in
    from vidar.eval.fault_table import run

    keep_in(cache)
    made = run(out, model=model, starts=starts, seconds=seconds, seed=seed, workers=workers, docs=docs)
    told = {
        "headline": made["headline"],
        "seen": {name: one["seen"] for name, one in made["metrics"].items()},
        "broken_claims": [": ".join(pair) for pair in made["broken_claims"]] or "none",
        "report": str(out / "faults.html"),
    }
    show.result(made, as_json, show.flat(told))
