"""`vidar synth`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vidar.commands import show


def synth(
    model: show.World,
    jobs: Annotated[Path, typer.Option(help="File with one JSON object per line. Fields: id, seed, frames or seconds; "
                                            "optional: context, actions, size, planner.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the videos; running the same command again resumes in it.",
                                      show_default=False)],
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes or Ray actors, one thread each.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run the workers on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or "
                                             "local (starts one on this machine)."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Number of videos in one batched forward pass (default: 4).")
    ] = None,
    segment: Annotated[
        int | None, typer.Option(min=1, help="Frames per segment (default: 64, or the world's window if longer).")
    ] = None,
    device: show.Device = "cpu",
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:  # fmt: skip
    """Generate many long videos in parallel, resumable after any crash, playable while they grow."""
    from vidar.check import check_device
    from vidar.data.cache import keep_in
    from vidar.synth.driver import SynthRequest, synthesise
    from vidar.synth.ray_workers import on_ray
    from vidar.synth.workers import LocalWorkers

    keep_in(cache)
    place = on_ray(ray) if ray else LocalWorkers
    request = SynthRequest(
        model=model, jobs=str(jobs), out=str(out), workers=workers, rows=rows, segment=segment,
        device=device if ray else check_device(device),
    )  # fmt: skip
    with bars() as (progress, say), redirect_stdout(sys.stderr):  # Ray prints to stdout when a node is lost
        made = synthesise(request, progress, say, place)
    shown = {"out": out, "done": made["done"], "failed": made["failed"], "manifest": out / "manifest.json"}
    show.result(made, as_json, show.flat(shown))
    raise typer.Exit(1 if made["failed"] else 0)


@contextmanager
def bars() -> Generator[tuple[Callable[[str, int, int, int], None], Callable[[str], None]]]:
    """Show a progress bar on stderr (if it is a terminal) for every unfinished video.

    Yields (progress, say): `progress` updates a bar, `say` prints a line above the bars.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}
        videos = shown.add_task("videos", total=None)
        done = 0

        def progress(name: str, frames: int, total: int, left: int) -> None:
            nonlocal done
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=total)
            shown.update(tasks[name], completed=frames)
            if frames == total:
                shown.remove_task(tasks.pop(name))
                done, left = done + 1, left - 1
            shown.update(videos, completed=done, total=done + left)

        def say(line: str) -> None:
            if console.is_terminal:
                console.print(f"vidar: {' '.join(line.split())}", markup=False, highlight=False, soft_wrap=True)
            else:
                print(f"vidar: {' '.join(line.split())}", file=sys.stderr, flush=True)

        yield progress, say
