"""`vidar replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .dream file of a recording.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Video to write; its .json side file says how it was made.")],
    model: Annotated[
        str | None,
        typer.Option(help="World that the session was played in (default: the shipped world named in the file)."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device that the session was played on: cpu, cuda, ...")] = "cpu",
    cache: show.Cache = None,
    cache_limit: show.CacheLimit = None,
    as_json: show.Json = False,
) -> None:
    """Recompute a played session, with exactly the same frames, and write it as a video."""
    from vidar.check import check_device
    from vidar.data.cache import keep_in
    from vidar.play.replay import write_replay

    keep_in(cache, cache_limit)
    with show.progress("frames") as progress:
        made = write_replay(file, out, model, check_device(device), progress)
    shown = {key: made[key] for key in ("video", "frames", "fps", "world", "seed", "frames_sha256")}
    show.result(made, as_json, show.flat(shown))
