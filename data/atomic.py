"""Files that exist completely or not at all: temporary name in the same folder, fsync, rename."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vidar.types import UsageError, VidarError

TEMPORARY = ".tmp."  # part of the names of unfinished files


def check_output(path: str | os.PathLike[str]) -> Path:
    """Check before any computation that an output file can be created. Raises VidarError if not."""
    file = Path(path)
    if file.exists() and not file.is_file():
        raise VidarError(f"{file}: is not a regular file; give the name of a file to write")
    if not file.parent.is_dir():
        what = "is not a folder" if file.parent.exists() else "does not exist"
        raise VidarError(f"{file}: the folder {file.parent} {what}; create it first")
    if not os.access(file.parent, os.W_OK):
        raise VidarError(f"{file}: no permission to write to {file.parent}")
    return file


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Yields a temporary path, which is renamed to `path` if the block succeeds and removed if it fails.

    Raises VidarError in one line if the system refuses (disk full, no permission, ...).
    """
    file = check_output(path)
    temporary = file.with_name(f"{file.name}{TEMPORARY}{os.getpid()}")
    try:
        yield temporary
        publish(temporary, file)
    except OSError as error:
        raise VidarError(f"{file}: cannot be written: {error.strerror or error}") from None
    except SafetensorError as error:  # wraps the errors of the system
        raise VidarError(f"{file}: cannot be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, file: Path) -> None:
    """fsync the file, rename it, fsync the folder."""
    sync(temporary)
    os.replace(temporary, file)
    sync(file.parent)


def sync(path: Path) -> None:
    """fsync a file or a folder by name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock_folder(folder: str | os.PathLike[str], writer: str) -> Generator[Path]:
    """Make the folder if it does not exist, and keep other processes from writing there until the block ends.

    writer: who writes there, for the message to the other one, such as "vidar synth". The lock ends with the process,
    however it ends.
    Raises UsageError if the folder cannot be made or written to, or if another process holds it.
    """
    import fcntl

    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{place}: cannot be a folder to write to ({error.strerror}); give another one") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{place}: another {writer} is writing there; wait for it or stop it") from None
        if not os.access(place, os.W_OK):
            raise UsageError(f"{place}: no permission to write there; give another folder")
        yield place
    finally:
        os.close(handle)
