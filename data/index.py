"""shards.json: the index of a folder of shards. It lists complete shards only and is replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidar.actions import ActionSpec
from vidar.config import from_dict, to_dict
from vidar.data.atomic import replacing
from vidar.types import UsageError, VidarError

INDEX = "shards.json"
SCHEMA = 1
LIMIT = 64 << 20  # maximum size of an index in bytes
KEYS = {"schema", "fps", "height", "width", "spec", "shards"}
SHARD_NAME = re.compile(r"[^/\\\0]+\.tar")
WRITTEN_NAME = re.compile(r".+-\d{6,}\.tar")


@dataclass(frozen=True)
class Shard:
    """One tar file. name: file name; split: "train", "test", ...

    samples, frames, bytes: counts; sha256: of the file; sides: sha256 of its side files in order ("": not known).
    """

    name: str
    split: str
    samples: int
    frames: int
    bytes: int
    sha256: str
    sides: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for values of another kind."""
        if any(type(value) is not str for value in (self.name, self.split, self.sha256, self.sides)):
            raise ValueError(f"a name or hash of shard {self.name!r} is not text")
        for value in (self.samples, self.frames, self.bytes):
            if type(value) is not int or value < 0:
                raise ValueError(f"shard {self.name!r} has the count {value!r}")
        if not SHARD_NAME.fullmatch(self.name):
            raise ValueError(f"shard name {self.name!r} is not a plain .tar file name")


@dataclass(frozen=True)
class Index:
    """One data set; all episodes have the same action spec, frame rate and frame size."""

    spec: ActionSpec
    fps: float
    height: int
    width: int
    shards: tuple[Shard, ...]

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order in which they were written."""
        return tuple(dict.fromkeys(shard.split for shard in self.shards))


def save_index(folder: Path, index: Index) -> None:
    """Replace the index of a folder."""
    data = {
        "schema": SCHEMA,
        "fps": index.fps,
        "height": index.height,
        "width": index.width,
        "spec": to_dict(index.spec),
        "shards": [asdict(shard) for shard in index.shards],
    }
    data["sha256"] = _digest(data)
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


def shard_name(folder: Path, split: str, listed: Iterable[str]) -> str:
    """The name of the next shard of a split. listed: the names of those that it has."""
    mine = [*listed]
    numbers = [int(found[1]) for name in mine if (found := re.search(r"-(\d+)\.tar$", name))]
    return f"{name_of(folder)}-{split}-{max(len(mine), 1 + max(numbers, default=-1)):06d}.tar"


def name_of(folder: Path) -> str:
    """The name of the data set, with which the names of its shards begin."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name) or "data"


def is_data_set(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of shards rather than of videos, even if its index is damaged or missing: `load_index`
    then says so.
    """
    folder = Path(path)
    if os.path.lexists(folder / INDEX):
        return True
    return folder.is_dir() and any(WRITTEN_NAME.fullmatch(name) for name in os.listdir(folder))


def load_index(path: str | os.PathLike[str]) -> Index:
    """Read the index of a folder. Raises VidarError naming the file and the remedy if it is missing or damaged."""
    folder = Path(path)
    file = folder / INDEX
    if not folder.is_dir():
        raise VidarError(f"{folder}: no such data folder; `vidar record` makes one")
    if not file.is_file():
        raise VidarError(f"{file}: missing, so {folder} holds no finished shards; record or convert the data again")
    if file.stat().st_size > LIMIT:
        raise VidarError(f"{file}: larger than {LIMIT >> 20} MiB; not an index")
    try:
        return _parse(json.loads(file.read_text()), file)
    except (UsageError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VidarError(f"{file}: not a valid index ({reason}); record or convert the data again") from None


def _parse(data: Any, file: Path) -> Index:
    if data["schema"] != SCHEMA:
        raise VidarError(f"{file}: schema {data['schema']!r}, this version reads {SCHEMA}")
    digest = data.pop("sha256", None)  # an index of an earlier version has none
    if data.keys() != KEYS:
        raise ValueError(f"its keys are {', '.join(sorted(data))}")
    spec = from_dict(data["spec"])
    if not isinstance(spec, ActionSpec):
        raise VidarError(f"{file}: 'spec' is not an ActionSpec")
    index = Index(
        spec, float(data["fps"]), int(data["height"]), int(data["width"]), tuple(Shard(**one) for one in data["shards"])
    )
    if not 0 < index.fps < 1e6 or index.height < 1 or index.width < 1:
        raise ValueError("fps, height or width is out of range")
    _check_twice(index, file)
    if digest is not None and digest != _digest(data):
        raise VidarError(
            f"{file}: was changed after it was written; restore it, or, if the change is right, remove its entry "
            "'sha256'"
        )
    return index


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _check_twice(index: Index, file: Path) -> None:
    """Raises VidarError for a shard with two entries, saying which one belongs to the file."""
    counts = Counter(shard.name for shard in index.shards)
    for name in (name for name, count in counts.items() if count > 1):
        entries = [shard for shard in index.shards if shard.name == name]
        shard = file.with_name(name)
        digest = hashlib.sha256(shard.read_bytes()).hexdigest() if shard.is_file() else ""
        right = [number for number, entry in enumerate(entries, 1) if entry.sha256 == digest]
        keep = f"keep the entry number {right[0]} of it" if right else "none of them fits the file, so remove all"
        raise VidarError(f"{file}: lists {name} {counts[name]} times; {keep}, and remove the entry 'sha256'")
