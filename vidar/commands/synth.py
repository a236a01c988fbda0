"""`vidar synth`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vidar.commands import show
from vidar.printable import one_line

if TYPE_CHECKING:
    from vidar.synth.driver import SynthRequest


def synth(
    model: show.World,
    jobs: Annotated[Path, typer.Option(help="File with one JSON object per line. Fields: id, frames or seconds; "
                                            "optional: seed, context, actions, size, prompt, label, planner. "
                                            "Lines that begin with // are comments.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the videos and their page, index.html; running the same "
                                           "command again resumes in it.", show_default=False)],
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
    spread_starts: Annotated[
        bool,
        typer.Option("--spread-starts", help="Begin jobs without a context at different start clips of the model, "
                                             "chosen by their seed. Jobs without a seed always do."),
    ] = False,
    no_memory: show.NoMemory = False,
    limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Longest video that a job may ask for (default: one day).")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check all jobs, estimate time and disk space with a short probe of the model, "
                                       "and write nothing."),
    ] = False,
    device: show.Device = "cpu",
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:  # fmt: skip
    """Generate many long videos in parallel, resumable after any crash, playable while they grow."""
    from vidar.check import check_device
    from vidar.data.cache import keep_in
    from vidar.model.files import LONGEST
    from vidar.synth.driver import SynthRequest, synthesise
    from vidar.synth.ray_workers import on_ray
    from vidar.synth.workers import LocalWorkers

    keep_in(cache)
    place = on_ray(ray) if ray else LocalWorkers
    request = SynthRequest(
        model=model, jobs=str(jobs), out=str(out), workers=workers, rows=rows, segment=segment,
        spread_starts=spread_starts or None, no_memory=no_memory or None, limit=LONGEST if limit is None else limit,
        device=device if ray else check_device(device),
    )  # fmt: skip
    show.warn_of_few_steps(model)
    if dry_run:
        return rehearse(request, as_json)
    with bars() as (progress, say), redirect_stdout(sys.stderr):  # Ray prints to stdout when a node is lost
        made = synthesise(request, progress, say, place)
    shown = {"out": out, "done": made["done"], "failed": made["failed"], "page": out / "index.html"}
    show.result(made, as_json, show.flat({**shown, "manifest": out / "manifest.json"}))
    raise typer.Exit(1 if made["failed"] else 0)


def rehearse(request: SynthRequest, as_json: bool) -> None:
    """Check a batch and print what it would take. Exits with code 1 if a job is refused."""
    from vidar.synth.driver import check, complain_of, counts
    from vidar.synth.estimate import estimate

    with bars() as (_, say):
        batch = check(request)
        complain_of(request, batch, say)
        made = {"refused": len(batch.wrong), "done": counts(batch)["done"], **estimate(request, batch)}
    show.result(made, as_json, show.flat(_readable(made, request)))
    raise typer.Exit(1 if made["refused"] else 0)


def _readable(made: Mapping[str, Any], request: SynthRequest) -> dict[str, str]:
    """The estimate as words."""
    workers = f"{request.workers} worker{'' if request.workers == 1 else 's'}"
    enough = "" if made["bytes"] < made["free_bytes"] else "; NOT ENOUGH"
    return {
        "jobs": f"{made['videos']} to make, {made['done']} already made, {made['refused']} refused",
        "videos": f"{made['frames']:,} frames, {duration(made['video_seconds'])}",
        "time": f"about {duration(made['seconds'])} with {workers}",
        "disk": f"about {amount(made['bytes'])}, {amount(made['free_bytes'])} free{enough}",
        "measured": made["measured"],
    }


def duration(seconds: float) -> str:
    """Seconds as s, min, h or days, with two or three digits."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def amount(size: float) -> str:
    """Bytes as kB, MB, GB or TB, with two or three digits."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


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
                console.print(f"vidar: {one_line(line)}", markup=False, highlight=False, soft_wrap=True)
            else:
                print(f"vidar: {one_line(line)}", file=sys.stderr, flush=True)

        yield progress, say
