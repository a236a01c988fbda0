"""Output files that exist completely or not at all (temporary name, fsync, rename), and locks of folders."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from vidar.types import UsageError, VidarError

TEMPORARY = ".tmp."  # part of the names of unfinished files
LOCK = ".vidar.lock"  # the lock of a whole folder
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # another process holds a lock


def check_output(path: str | os.PathLike[str]) -> Path:
    """Check before any computation that an output file can be created. Raises VidarError if not."""
    file = Path(path)
    if file.exists() and not file.is_file():
        raise VidarError(f"{file}: is not a regular file; give another name, or remove it")
    if not file.parent.is_dir():
        what = "is not a folder" if file.parent.exists() else "does not exist"
        raise VidarError(f"{file}: the folder {file.parent} {what}; create it first")
    if not os.access(file.parent, os.W_OK):
        raise VidarError(f"{file}: no permission to write to {file.parent}")
    return file


@contextmanager
def writing(file: str | os.PathLike[str]) -> Generator[None]:
    """Turn every failure of the system inside the block (disk full, no permission, ...) into one VidarError line."""
    try:
        yield
    except OSError as error:
        raise VidarError(f"{file}: cannot be written: {error.strerror or error}") from None
    except SafetensorError as error:  # wraps the errors of the system
        raise VidarError(f"{file}: cannot be written: {error}") from None


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Yields a temporary path, which is renamed to `path` if the block succeeds and removed if it fails.

    Raises VidarError in one line if the system refuses (disk full, no permission, ...).
    """
    file = check_output(path)
    temporary = file.with_name(f"{file.name}{TEMPORARY}{os.getpid()}")
    try:
        with writing(file):
            yield temporary
            publish(temporary, file)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replacing_folder(path: str | os.PathLike[str], last: str) -> Generator[Path]:
    """Yields an empty folder inside `path`; if the block succeeds, what is in it replaces entries of `path`.

    Entries of other names stay. The file `last`, which marks the folder as complete, is removed before and moved last.
    Raises VidarError in one line if the system refuses; the folder then is as it was.
    """
    folder = Path(path)
    temporary, new = folder / f"{TEMPORARY}{os.getpid()}", not folder.exists()
    try:
        with writing(folder):
            temporary.mkdir(parents=True)
            yield temporary
            (folder / last).unlink(missing_ok=True)
            for entry in sorted(temporary.iterdir(), key=lambda entry: (entry.name == last, entry.suffix == ".json")):
                if (folder / entry.name).is_dir():
                    shutil.rmtree(folder / entry.name)
                os.replace(entry, folder / entry.name)
            sync(folder)
    except VidarError as error:  # name the place that the user knows
        raise type(error)(str(error).replace(str(temporary), str(folder))) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, with its parents, if it does not exist. Raises VidarError in one line if the system refuses."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VidarError(f"{folder}: cannot be made a folder ({error.strerror}); give another place") from None
    return folder


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

    A folder that was made for nothing, because the block failed before it wrote anything, is removed again.
    writer: who writes there, for the message to the other process, such as "vidar synth".
    Raises UsageError if the folder cannot be made or written to, or if another process holds it.
    """
    place = Path(folder)
    new = not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{place}: cannot be a folder to write to ({error.strerror}); give another one") from None
    try:
        with lock(place / LOCK, f"{place}: another {writer} is writing there; wait for it or stop it"):
            yield place
    finally:
        if new:
            with suppress(OSError):  # it is not empty
                place.rmdir()


@contextmanager
def lock(file: Path, refusal: str | None = None) -> Generator[None]:
    """Hold a lock until the block ends. `file` exists meanwhile; the lock ends with the process, however it ends.

    refusal: the message if another process, or another block of this one, holds the lock; None: wait for it.
    Choice: a lock on a file of its own works on network file systems as well; where a file system has no locks at all,
    nothing is written.
    Raises UsageError if the lock is held or cannot be made.
    """
    handle = _locked(file, refusal)
    try:
        yield
    finally:
        with suppress(OSError):  # a file system that has become read-only
            file.unlink()
        os.close(handle)


def _locked(file: Path, refusal: str | None) -> int:
    """The open descriptor that holds the lock."""
    import fcntl

    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UsageError(f"{file.parent}: cannot be written to ({error.strerror}); give another folder") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if refusal is None else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(handle), os.stat(file)):
                return handle
        except FileNotFoundError:
            pass  # the holder before us removed the file between the two calls
        except OSError as error:
            os.close(handle)
            if refusal is not None and error.errno in BUSY:
                raise UsageError(refusal) from None
            raise UsageError(
                f"{file.parent}: its file system has no locks ({error.strerror}), so nothing would keep two writers "
                "apart; give a folder on another one"
            ) from None
        os.close(handle)
