"""The check of outputs before any computation: an input, or a file that vidar did not write, is never replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import av
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vidar.data.atomic import check_output
from vidar.types import UsageError

WRITER = "vidar"  # in the metadata of videos ("comment") and pictures ("Software")
READ = 1 << 16  # bytes of a page that are searched for the name


Name = str | os.PathLike[str]


def check_outputs(outputs: Iterable[Name], inputs: Iterable[Name | None] = ()) -> None:
    """Check before any computation that files can be created, and may be replaced where they exist.

    Choice: vidar replaces what it has written itself, so that a command may be repeated, and an empty file; anything
    else of the same name stays.
    Raises UsageError for an input of the command or a file of another origin, VidarError as `check_output`.
    """
    given = [Path(name) for name in inputs if name is not None]
    for name in outputs:
        file = check_output(name)
        if not file.exists():
            continue
        if any(one.exists() and one.samefile(file) for one in given):
            raise UsageError(f"{file}: is read by this command, so it cannot be its output; give another name")
        if not is_ours(file):
            raise UsageError(f"{file}: exists, and vidar did not write it; give another name, or move it away")


def written_by() -> PngInfo:
    """The `pnginfo` that marks a picture as written by vidar."""
    info = PngInfo()
    info.add_text("Software", WRITER)
    return info


def check_apart(folder: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
    """Raises UsageError if an output folder is a folder that is read, or lies in it."""
    out, read = Path(folder).resolve(), Path(source).resolve()
    if out == read or read in out.parents:
        raise UsageError(f"{folder}: lies in {source}, which is read; give a folder outside of it")


def is_ours(file: Path) -> bool:
    """Whether vidar wrote a file: its metadata say so, or a side file of vidar lies beside it. An empty file counts."""
    try:
        if file.stat().st_size == 0:
            return True
        if file.suffix == ".json":
            return _is_side(file)
        if _is_side(file.with_suffix(".json")):
            return True
        if file.suffix == ".mp4":
            with av.open(str(file)) as video:
                return video.metadata.get("comment") == WRITER
        if file.suffix == ".png":
            with Image.open(file) as picture:
                return picture.info.get("Software") == WRITER
        with file.open("rb") as stream:
            return WRITER.encode() in stream.read(READ)
    except (av.FFmpegError, OSError, ValueError, SyntaxError):
        return False


def _is_side(file: Path) -> bool:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return False
    versions = content.get("versions") if isinstance(content, dict) else None
    return isinstance(versions, dict) and WRITER in versions
