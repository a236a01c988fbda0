"""`vidar replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NAME.dream of a recording.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Video to write; x.json beside it says how it was made.")],
    model: Annotated[
        str | None, typer.Option(help="The world it was played in (default: the shipped one that the file names).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...: where it was played.")] = "cpu",
    as_json: show.Json = False,
) -> None:
    """Dream a played session again, frame for frame the same, and write it as a video."""
    from vidar.check import check_device
    from vidar.play.replay import write_replay

    with show.progress("frames") as progress:
        made = write_replay(file, out, model, check_device(device), progress)
    shown = {key: made[key] for key in ("video", "frames", "fps", "world", "seed", "frames_sha256")}
    show.result(made, as_json, show.flat(shown))
