"""The output of a report: its folder, its files (each complete or absent) and the progress bar."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidar.data.atomic import make_folder, replacing, writing
from vidar.data.outputs import check_outputs
from vidar.types import UsageError, VidarError

MARK = "report.json"  # written last: if it exists, the other files are complete
FILES = (MARK, "report.html", "dream.mp4", "dream.json", "strips/*.png")


def folder(out: str | os.PathLike[str], names: Sequence[str] = FILES) -> Path:
    """The output folder, which is not created yet. names: of the files to be written, or patterns of them.

    Raises UsageError if it is a file or holds files of another origin under the names of a report's, VidarError
    without permission.
    """
    wanted = Path(out)
    for place in (wanted, *wanted.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"{place} is a file, but a report needs a folder; choose another --out")
            if not os.access(place, os.W_OK):
                raise VidarError(f"{place}: no permission to write; choose another --out")
            break
    check_outputs(file for name in names for file in sorted(wanted.glob(name)))
    return wanted


def begin(place: Path, mark: str = MARK) -> None:
    """Create the folder and remove the mark of an earlier report."""
    make_folder(place)
    with writing(place / mark):
        (place / mark).unlink(missing_ok=True)


def write(file: Path, content: str | dict[str, Any]) -> None:
    """Write a text, or a record as JSON, atomically."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    with replacing(file) as temporary:
        temporary.write_text(text)


@contextmanager
def bar(console: Console, what: str) -> Generator[Callable[[int, int], None]]:
    """A progress bar; yields tick(done, all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
