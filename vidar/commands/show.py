"""Output of the commands: results on stdout, as text or as JSON; progress bars on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidar.printable import one_line, printable

# the entries of a report that a terminal shows
HEADLINES = (
    *("world", "params", "episodes", "frames", "fps", "latency_ms", "means", "gains", "sharpness_ratio"),
    *("action_score", "action_score_left_out", "passed", "survival", "recorded", "dreamed"),
    "rows",
)

Prompt = Annotated[str | None, typer.Option(help="Text prompt (text-conditioned models).")]
Label = Annotated[int | None, typer.Option(help="Class label (class-conditioned models).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
World = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a shipped world, or a model folder.")]
Device = Annotated[str, typer.Option(help="Device to run on: cpu, cuda, ...")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        callback=lambda packages: trust_all(packages),
        help="Allow recipes and configs of this package, which run its code; may be repeated.",
    ),
]
NoMemory = Annotated[
    bool, typer.Option("--no-memory", help="Run a world that has a memory without it, as one that has none.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Solver steps per frame (default: the model's).")]
Record = Annotated[
    str | None,
    typer.Option(metavar="RECIPE", help="Store the figures as results of this recipe (in a source checkout of vidar)."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for what can be made again: latents, compiled functions, timings (default: latents in the data "
        "folder if it can be written, all else in ~/.cache/torch/vidar).",
    ),
]
CacheLimit = Annotated[
    float | None,
    typer.Option(
        metavar="GIB", min=0, help="Size of that folder, beyond which the files unused for longest go (default: 8)."
    ),
]


def result(value: Any, as_json: bool, lines: Iterable[str] | None = None) -> None:
    """Print a result as JSON, as the given lines, or as one `key  value` line per entry."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
        return
    for line in flat(value) if lines is None else lines:
        typer.echo(printable(line))


def trust_all(packages: Iterable[str] | None) -> None:
    """Trust packages, see `vidar.config.trust`."""
    for package in packages or ():
        from vidar.config import trust

        trust(package)


def warn(message: str) -> None:
    """Print a warning as one line on stderr."""
    typer.echo(f"vidar: {one_line(message)}", err=True)


def warn_of_few_steps(model: str) -> None:
    """Warn if a model was trained for too few steps. Raises UsageError or VidarError if it is missing or damaged."""
    from vidar.model.load import locate
    from vidar.model.trained import few_steps

    if line := few_steps(locate(model)):
        warn(line)


def flat(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Format nested results as indented lines."""
    width = max((len(str(key)) for key in value), default=0)
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield f"{indent}{key}"
            yield from flat(item, indent + "  ")
        else:
            yield f"{indent}{key!s:<{width}}  {_text(item)}"


def _text(item: Any) -> str:
    if isinstance(item, bool) or item is None:
        return {True: "yes", False: "no", None: "-"}[item]
    if isinstance(item, float):
        return f"{item:.4g}"
    if isinstance(item, int):
        return f"{item:,}"
    return ", ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int | None], None]]:
    """Show a progress bar on stderr if it is a terminal. Yields a callback that takes (done, total or None)."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
