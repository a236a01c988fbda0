"""shards.json: the index of a folder of shards. It lists complete shards only and is replaced as a whole."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidar.actions import ActionSpec
from vidar.config import from_dict, to_dict
from vidar.data.atomic import replacing
from vidar.types import VidarError

INDEX = "shards.json"
SCHEMA = 1
LIMIT = 64 << 20  # maximum size of an index in bytes


@dataclass(frozen=True)
class Shard:
    """One tar file. name: file name; split: "train", "test", ...

    samples, frames, bytes: counts; sha256: of the file.
    """

    name: str
    split: str
    samples: int
    frames: int
    bytes: int
    sha256: str


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
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


def load_index(path: str | os.PathLike[str]) -> Index:
    """Read the index of a folder. Raises VidarError naming the file and the remedy."""
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VidarError(f"{file}: not a valid index ({reason}); record or convert the data again") from None


def _parse(data: Any, file: Path) -> Index:
    if data["schema"] != SCHEMA:
        raise VidarError(f"{file}: schema {data['schema']!r}, this version reads {SCHEMA}")
    spec = from_dict(data["spec"])
    if not isinstance(spec, ActionSpec):
        raise VidarError(f"{file}: 'spec' is not an ActionSpec")
    shards = tuple(Shard(**entry) for entry in data["shards"])
    for shard in shards:
        if Path(shard.name).name != shard.name or not shard.name.endswith(".tar"):
            raise VidarError(f"{file}: shard name {shard.name!r} is not a plain .tar file name")
    return Index(spec, float(data["fps"]), int(data["height"]), int(data["width"]), shards)
