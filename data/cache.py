"""Files that vidar can make again (latents, compiled functions, timings): where they are, locks, and a limit of bytes.

Every file is replaced as a whole (`vidar.data.atomic.replacing`), and contains or is named by a hash of its content, so
that a damaged file is noticed and made again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from vidar.printable import one_line
from vidar.types import UsageError

LIMIT = 8 << 30  # bytes of all such files in one folder
OURS = re.compile(
    r"((latents|pictures|annotations|told)-[A-Za-z0-9_-]+-[0-9a-f]{12,16}(-p\d+)?(-[0-9a-f]{8})?\.(safetensors|json)"
    r"|[0-9a-f]{20}(-[0-9a-f]{16})?\.pt2)(\.tmp\.\d+)?"
)
LEFT_OVER_S = 24 * 3600  # age after which an unfinished file belongs to a writer that was killed
MARGIN = 16 << 20  # bytes that must stay free


@dataclass
class _Choice:
    folder: Path | None = None
    limit: int = LIMIT


_choice = _Choice()


def keep_in(folder: str | os.PathLike[str] | None = None, limit_gib: float | None = None) -> None:
    """Keep all such files of this process in `folder` (None: the default places), and at most `limit_gib` GiB of them.

    Call it before anything is built. Raises UsageError if the folder cannot be written.
    """
    if folder is not None and (problem := unwritable(Path(folder))):
        raise UsageError(f"{problem}; give another folder with --cache")
    _choice.folder = None if folder is None else Path(folder).absolute()
    _choice.limit = LIMIT if limit_gib is None else int(limit_gib * 2**30)


def chosen() -> Path | None:
    """The folder that `keep_in` set, to be passed on to worker processes."""
    return _choice.folder


def limit() -> int:
    """The number of bytes that `keep_in` set, or `LIMIT`."""
    return _choice.limit


def cache_folder() -> Path:
    """The chosen folder; by default the one next to torch's other files ($TORCH_HOME, or ~/.cache/torch)."""
    return _choice.folder or Path(torch.hub.get_dir()).parent / "vidar"


def unwritable(folder: Path, needed: int = 0) -> str:
    """Why `needed` bytes cannot be written to a folder, which is made if it does not exist; "" if they can.

    needed 0: only whether a file can be made there, however full the disk is.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe" if needed else b"")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    if needed and free < needed + MARGIN:
        return f"{folder} has {free >> 20} MiB free, {(needed + MARGIN) >> 20} MiB are needed"
    return ""


def say(line: str) -> None:
    """Print one line on stderr."""
    print(f"vidar: {one_line(line)}", file=sys.stderr, flush=True)


@contextmanager
def locked(file: Path, waiting: Callable[[], None] | None = None) -> Generator[None]:
    """Exclude all other processes and threads of this machine. Raises OSError if that is impossible.

    waiting: called if another one has the lock.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError("no file locks on this system") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def hold(file: Path) -> BinaryIO | None:
    """Open a file and keep `clean` from removing it while the result is open; None if there is no such file.

    It also counts as used now.
    """
    try:
        if not file.is_file():  # to open a pipe would wait for ever
            return None
        handle = file.open("rb")
    except OSError:
        return None
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_SH)
    if os.fstat(handle.fileno()).st_nlink == 0:
        handle.close()
        return None
    with suppress(OSError):
        os.utime(file)
    return handle


def clean(folder: Path, keep: Iterable[Path] = (), most: int | None = None) -> None:
    """Remove the files of `OURS` that were not used for longest, until the rest has at most `most` bytes.

    most: None: `limit()`. Files in `keep` and those that a process holds stay. Unfinished files of killed writers are
    removed as well. A file that cannot be removed is passed over.
    """
    found = list[tuple[float, int, Path]]()
    for file in folder.iterdir():
        if OURS.fullmatch(file.name) and file.is_file() and not file.is_symlink():
            with suppress(OSError):
                state = file.stat()
                found.append((state.st_mtime, state.st_size, file))
    total, kept = sum(size for _, size, _ in found), {file.name for file in keep}
    for used, size, file in sorted(found):
        left_over = ".tmp." in file.name and time.time() - used > LEFT_OVER_S
        surplus = total > (limit() if most is None else most) and ".tmp." not in file.name
        if file.name not in kept and (left_over or surplus) and remove(file):
            total -= size


def remove(file: Path) -> bool:
    """Remove a file unless a process holds it; returns whether it is gone."""
    try:
        import fcntl

        with file.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
    except (ImportError, OSError):
        return False
    return True
