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
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped world, or the folder of one.")],
    jobs: Annotated[Path, typer.Option(help="One JSON object a line: id, seed, frames or seconds; may have context, "
                                            "actions, size, planner.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the videos; the same command again goes on in it.",
                                      show_default=False)],
    workers: Annotated[int, typer.Option(min=1, help="Processes, or actors, of one thread each.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Work on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local (one "
                                             "of this machine)."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Videos in one forward (default: 4).")] = None,
    segment: Annotated[
        int | None, typer.Option(min=1, help="Frames made at a time (default: 64, or as many as the world sees).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    as_json: show.Json = False,
) -> None:  # fmt: skip
    """Dream many long videos: workers that may die, videos that grow on disk, exact resume."""
    from vidar.check import check_device
    from vidar.synth.driver import SynthRequest, synthesise
    from vidar.synth.ray_workers import on_ray
    from vidar.synth.workers import LocalWorkers

    place = on_ray(ray) if ray else LocalWorkers
    request = SynthRequest(
        model=model, jobs=str(jobs), out=str(out), workers=workers, rows=rows, segment=segment,
        device=device if ray else check_device(device),
    )  # fmt: skip
    with bars() as (progress, say), redirect_stdout(sys.stderr):  # Ray prints there where a node is lost
        made = synthesise(request, progress, say, place)
    shown = {"out": out, "done": made["done"], "failed": made["failed"], "manifest": out / "manifest.json"}
    show.result(made, as_json, show.flat(shown))
    raise typer.Exit(1 if made["failed"] else 0)


@contextmanager
def bars() -> Generator[tuple[Callable[[str, int, int, int], None], Callable[[str], None]]]:
    """A bar on stderr (in a terminal) for every video in work, and lines above them: (progress, say)."""
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
