"""`vidar eval export` and `vidar eval import`: clips in the layouts of benchmarks for worlds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show

Name = Annotated[str, typer.Option(help="gameworld, mind or wbench.", show_default=False)]


def export(
    model: show.World,
    layout: Name,
    out: Annotated[Path, typer.Option(help="Folder of the clips; the same command continues.", show_default=False)],
    action: Annotated[
        list[str] | None, typer.Option(help="Only this action; may be repeated (default: all).", show_default=False)
    ] = None,
    context: Annotated[
        Path | None, typer.Option(help="Clip or picture that all begin with (default: the world's start clip).")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="Frames of a clip (default: the layout's, or 65).")] = None,
    seed: Annotated[int, typer.Option(help="Each clip has a seed of its own that follows from this.")] = 0,
    steps: show.Steps = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes, one thread each.")] = 1,
    device: show.Device = "cpu",
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:
    """Make one clip for every action of a layout that the world can play."""
    from vidar.check import check_device
    from vidar.data.cache import keep_in
    from vidar.eval.layout_clips import ExportRequest
    from vidar.eval.layout_clips import export as run

    keep_in(cache)
    request = ExportRequest(
        model=model, layout=layout, out=str(out), actions=tuple(action or ()),
        context=None if context is None else str(context), frames=frames, seed=seed, steps=steps, workers=workers,
        device=check_device(device),
    )  # fmt: skip
    with show.progress("clips") as progress:
        made = run(request, progress)
    if made["left_out"]:
        show.warn(f"{len(made['left_out'])} actions that this world does not have: {', '.join(made['left_out'])}")
    show.result(made, as_json, show.flat({**made, "left_out": len(made["left_out"])}))


def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder in the layout, whoever made it.")],
    layout: Name,
    idm: Annotated[
        Path | None,
        typer.Option(help="Inverse-dynamics model that reads the actions (default: the one shipped for the world)."),
    ] = None,
    as_json: show.Json = False,
) -> None:
    """Check names, side files, frame counts and sizes of a layout, and score what follows from the clips alone."""
    from vidar.eval.layout_clips import import_layout

    with show.progress("clips") as progress:
        made = import_layout(folder, layout, idm, progress, show.warn)
    hidden = ("problems", "left_out", "unread_clips")
    shown = {name: value for name, value in made.items() if name not in hidden}
    show.result(made, as_json, show.flat({**shown, "left_out": len(made["left_out"])}))
    raise typer.Exit(1 if made["problems"] else 0)
