"""What commands print: results on stdout, for people or as JSON; progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Prompt = Annotated[str | None, typer.Option(help="Text prompt (text-conditioned models).")]
Label = Annotated[int | None, typer.Option(help="Class label (class-conditioned models).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def result(value: Any, as_json: bool, lines: Iterable[str] | None = None) -> None:
    """Print a result: JSON, or the given lines, or one `key  value` line for each entry."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
        return
    for line in flat(value) if lines is None else lines:
        typer.echo(line)


def flat(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A tree of results as indented lines."""
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
    """A bar on stderr (in a terminal): the callback takes (done, total or None)."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
