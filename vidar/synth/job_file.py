"""The text of a job file: one JSON object per line. Blank lines and lines that begin with // are skipped."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from vidar.types import UsageError, VidarError

COMMENT = "//"
EXAMPLE = '{"id": "a", "seconds": 60}'
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def job_lines(file: Path) -> list[tuple[int, str]]:
    """Number (from 1) and text of every line that holds a job. The file is UTF-8, or UTF-16 with a byte order mark.

    Raises UsageError if the file cannot be read, holds no jobs, or is of another kind (CSV, one JSON array).
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: not readable as a file of jobs ({error.strerror})") from None
    encoding = next((name for bom, name in BOMS.items() if data.startswith(bom)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:
        raise UsageError(f"{file}: is no text in UTF-8 (it contains zero bytes); save it as UTF-8")
    text = data.decode(encoding, errors="surrogateescape" if encoding != "utf-16" else "replace")
    lines = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)]
    jobs = [(number, line) for number, line in lines if line and not line.startswith(COMMENT)]
    if not jobs:
        raise UsageError(f"{file}: holds no jobs; write one JSON object per line, such as {EXAMPLE}")
    _check_kind(file, [line for _, line in jobs])
    return jobs


def parse_job(line: str) -> dict[str, Any]:
    """The fields of a job. Raises VidarError with the remedy if the line is not one JSON object."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise VidarError("is not text in UTF-8; save the file as UTF-8") from None
    try:
        data = json.loads(line, object_pairs_hook=_fields)
    except (ValueError, RecursionError) as error:
        raise VidarError(f"not readable as JSON ({str(error).splitlines()[0]}){_remedy(line)}") from None
    if not isinstance(data, dict):
        raise VidarError(f"is not an object; write {EXAMPLE}")
    return cast(dict[str, Any], data)


def _fields(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of some pairs. Raises VidarError for a name that occurs twice, of which JSON would keep the last."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise VidarError(f"gives {twice} twice; leave one of them out")
    return made


def _check_kind(file: Path, lines: Sequence[str]) -> None:
    """Raises UsageError if the file as a whole is something other than one JSON object per line."""
    first = lines[0]
    if first.startswith("["):
        raise UsageError(f"{file}: is a JSON array; write one object per line, without the brackets and the commas")
    if first == "{":
        raise UsageError(f"{file}: spreads an object over several lines; write each job on one line, such as {EXAMPLE}")
    if not first.startswith("{") and re.match(r'"?\w+"?\s*[,;\t]', first):
        raise UsageError(f"{file}: looks like a CSV table; write one JSON object per line, such as {EXAMPLE}")


def _remedy(line: str) -> str:
    """What to do about a line that is not JSON, for the usual mistakes."""
    if line.endswith(","):
        return "; remove the comma at the end of the line"
    if re.search(r",\s*[}\]]", line):
        return "; remove the comma before the closing bracket"
    if "'" in line and '"' not in line:
        return "; write double quotes instead of single ones"
    if line.startswith("#"):
        return f"; a comment begins with {COMMENT}"
    if line.startswith("{") and f"}} {COMMENT}" in line:
        return "; put the comment on a line of its own"
    if re.search(r"}\s*{", line):
        return "; write one object per line"
    return ""
