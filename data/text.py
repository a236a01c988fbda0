"""Text files of a data set, read whole; a file that cannot be read is one line that names it."""

from __future__ import annotations

from pathlib import Path

from vidar.types import VidarError


def read_text(file: Path) -> str:
    """The text of a UTF-8 file with line ends `\\n`, without a byte order mark.

    Raises VidarError naming the file if it cannot be read or is not UTF-8.
    """
    check_regular(file)
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VidarError(f"{file}: is not UTF-8 text ({error}); save it as UTF-8") from None
    except OSError as error:
        raise VidarError(f"{file}: cannot be read: {error.strerror}") from None


def check_regular(file: Path) -> None:
    """Raises VidarError for a folder, a device or a pipe, whose reader would wait for ever."""
    if file.exists() and not file.is_file():
        raise VidarError(f"{file}: is not a regular file; restore it, or remove it")
