"""Figures of a report that another report can be compared with, start by start (`version`, `paired`, `strips`)."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidar.data.atomic import make_folder, replacing
from vidar.types import UsageError, VidarError

VERSION = 1
FILE = "report.json"
STRIPS = "strips"  # the folder of strips, beside report.json
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Figures:
    """One number per start for each figure.

    pairing: what two reports must share, as JSON values: suite, starts, frames, ... values: figure -> N numbers.
    better: figure -> which numbers are good. left_out: figure -> why it has no values.
    """

    pairing: Mapping[str, Any]
    values: Mapping[str, Sequence[float]]
    better: Mapping[str, Better]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def entries(self) -> dict[str, Any]:
        """The entries of report.json."""
        paired = {
            "pairing": dict(self.pairing),
            "values": {name: [round(float(value), 6) for value in values] for name, values in self.values.items()},
            "better": dict(self.better),
            "left_out": dict(self.left_out),
        }
        return {"version": VERSION, "paired": paired}


@dataclass(frozen=True)
class PairedReport:
    """A report that was read: its file, its whole content, and its paired figures."""

    file: Path
    content: Mapping[str, Any]
    figures: Figures

    @property
    def starts(self) -> int:
        """Numbers per figure."""
        return len(next(iter(self.figures.values.values())))

    def strips(self) -> dict[str, bytes]:
        """The strips of frames that were written beside the report, PNG by name; those that are gone are left out."""
        named = self.content.get("strips", {})
        files = {name: self.file.parent / str(place) for name, place in named.items()} if _is_table(named) else {}
        return {name: file.read_bytes() for name, file in files.items() if file.is_file()}

    def heads(self) -> list[str]:
        """The captions of the columns of the strips."""
        heads = self.content.get("strip_heads")
        return [str(head) for head in heads] if isinstance(heads, list) else []


def figures(
    pairing: Mapping[str, Any], values: Mapping[str, np.ndarray | Sequence[float]], better: Mapping[str, Better]
) -> Figures:
    """Figures whose numbers are all there; one that lacks a number is left out, with the reason.

    values: figure -> [N], the same N for all. Raises ValueError for other shapes and for names that do not agree.
    """
    kept: dict[str, Sequence[float]] = {}
    gone: dict[str, str] = {}
    for name, numbers in values.items():
        array = np.asarray(numbers, dtype=np.float64)
        if array.ndim != 1 or len(array) != len(next(iter(values.values()))) or name not in better:
            raise ValueError(f"{name}: one number per start and a direction are needed")
        missing = int((~np.isfinite(array)).sum())
        if missing:
            gone[name] = f"not measured for {missing} of {len(array)} starts"
        else:
            kept[name] = array.tolist()
    return Figures(pairing, kept, {name: better[name] for name in values}, gone)


def fingerprint_of(frames: np.ndarray) -> str:
    """SHA-256 of the real frames that figures refer to: those of other games, sizes or contexts differ."""
    shape = ",".join(map(str, frames.shape)).encode()
    return hashlib.sha256(shape + b";" + np.ascontiguousarray(frames).tobytes()).hexdigest()


def write_strips(place: Path, pictures: Mapping[str, bytes], heads: Sequence[str]) -> dict[str, Any]:
    """Write strips of frames, PNG by name, into the folder of a report; returns their entries of report.json.

    heads: the captions of their columns.
    """
    folder = make_folder(place / STRIPS)
    files = {name: f"{number:03d}.png" for number, name in enumerate(pictures)}
    for name, png in pictures.items():
        with replacing(folder / files[name]) as temporary:
            temporary.write_bytes(png)
    return {"strips": {name: f"{STRIPS}/{file}" for name, file in files.items()}, "strip_heads": list(heads)}


def read_paired(path: str | os.PathLike[str]) -> PairedReport:
    """Read report.json, given itself or its folder.

    Raises UsageError or VidarError in one line for a missing or damaged file, for a report without paired figures, and
    for numbers that are missing.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise VidarError(f"{file}: no such report; give the folder of a `vidar eval`, or its {FILE}")
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise VidarError(f"{file}: is not a report of vidar ({type(error).__name__})") from None
    if not isinstance(content, dict) or "versions" not in content:
        raise VidarError(f"{file}: is not a report of `vidar eval`")
    version = content.get("version")
    if version is None or "paired" not in content:
        raise UsageError(f"{file}: was written before reports could be compared; {_again(content)}")
    if version != VERSION:
        raise UsageError(f"{file}: has version {version!r}, and this vidar reads {VERSION}; {_again(content)}")
    return PairedReport(file, content, _checked(file, content["paired"], _again(content)))


def check_pairing(reports: Sequence[PairedReport]) -> None:
    """Raises UsageError, naming the first key that differs, if reports are not of the same starts."""
    first = reports[0]
    for other in reports[1:]:
        mine, theirs = first.figures.pairing, other.figures.pairing
        for key in [*mine, *(key for key in theirs if key not in mine)]:
            if mine.get(key) != theirs.get(key):
                raise UsageError(
                    f"{first.file} and {other.file} are not of the same starts: {key} {_difference(mine, theirs, key)}"
                )
        if first.starts != other.starts:
            raise UsageError(
                f"{first.file} has {first.starts} numbers per figure, {other.file} has {other.starts}; "
                "evaluate both with the same options"
            )


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any], key: str) -> str:
    a, b = mine.get(key), theirs.get(key)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return f"has {len(a)} entries and {len(b)}"
        place = next(n for n, (x, y) in enumerate(zip(a, b)) if x != y)
        return f"is {_short(a[place])} and {_short(b[place])} at number {place + 1}"
    return f"is {_short(a)} and {_short(b)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _again(content: Mapping[str, Any]) -> str:
    command = content.get("command")
    return f"run `{command if isinstance(command, str) else 'vidar eval MODEL --suite ...'}` again"


def _checked(file: Path, paired: Any, again: str) -> Figures:
    """The entry `paired` as Figures. Raises VidarError naming what is wrong."""
    parts: list[Any] = [paired.get(name) if _is_table(paired) else None for name in ("pairing", "values", "better")]
    pairing, values, better = parts
    if not all(map(_is_table, parts)):
        raise VidarError(f"{file}: its paired figures are damaged; {again}")
    if not values:
        raise VidarError(f"{file}: has no paired figures: {_reasons(paired)}")
    count = None
    for name, numbers in values.items():
        if better.get(name) not in ("higher", "lower") or not isinstance(numbers, list) or not numbers:
            raise VidarError(f"{file}: its figure {name!r} is damaged; {again}")
        count = len(numbers) if count is None else count
        if len(numbers) != count:
            raise VidarError(f"{file}: figure {name!r} has {len(numbers)} numbers, others have {count}; {again}")
        for place, number in enumerate(numbers, 1):
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise VidarError(f"{file}: figure {name!r} has no number for start {place}; {again}")
    if count is not None and count < 2:
        raise VidarError(f"{file}: has one start, but a comparison needs two or more")
    return Figures(pairing, values, better, dict(paired.get("left_out") or {}))


def _reasons(paired: Mapping[str, Any]) -> str:
    told = [f"{name} was {why}" for name, why in (paired.get("left_out") or {}).items()]
    return "; ".join(told) or "none were measured"
