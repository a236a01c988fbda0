"""What a data set was encoded to, on disk: one file with a part for each shard, named by the settings.

A part carries the hash of its shard and a hash of its own content. Shards that were added or recorded again, and those
whose part is damaged, are encoded; all other parts are kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidar.data.atomic import check_output, replacing
from vidar.data.cache import cache_folder, chosen, clean, hold, locked, say, unwritable
from vidar.data.episode import Episode
from vidar.data.index import INDEX, Index, Shard
from vidar.data.reader import read_sample, samples
from vidar.nn.pretrained import CONFIG, WEIGHTS
from vidar.types import UsageError, VidarError

LOCK = ".vidar-encoding.lock"
OFTEN = 600.0  # seconds of encoding that a killed process may lose


@dataclass(frozen=True)
class Part:
    """What one shard was encoded to. tensors: [N, ...] by name, each with an N of its own; names: of its clips."""

    tensors: Mapping[str, Tensor]
    names: Sequence[str]

    def digest(self, shard: str) -> str:
        """A hash of everything in it, and of the hash of its shard."""
        shapes = {name: [str(value.dtype), list(value.shape)] for name, value in sorted(self.tensors.items())}
        found = hashlib.sha256(json.dumps([shard, list(self.names), shapes]).encode())
        for _, value in sorted(self.tensors.items()):
            found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()


@dataclass(frozen=True)
class Encoded:
    """The parts of all shards of a split, in the order of the index. files: open while the tensors are in use."""

    parts: Sequence[Part]
    tensors: Mapping[str, Tensor]
    files: Sequence[BinaryIO] = ()

    @property
    def names(self) -> list[str]:
        """The names of all parts."""
        return [name for part in self.parts for name in part.names]


@dataclass(frozen=True)
class Encoding:
    """How the shards of one split are encoded.

    kind: first word of the file name. settings: everything that the result depends on besides the shards. make: encodes
    the episodes of one shard. frame_bytes: returns the bytes of the result per frame. cache: folder for the file; None:
    the one of `vidar.data.cache.keep_in`, or else the data folder, or else the cache folder of the user. extras: ground
    truth that `make` reads.
    """

    kind: str
    path: Path
    split: str
    index: Index
    settings: Mapping[str, Any]
    make: Callable[[Iterator[Episode]], Part]
    frame_bytes: Callable[[], float]
    cache: str | None = None
    extras: tuple[str, ...] = ()

    @property
    def shards(self) -> list[Shard]:
        """The shards of the split."""
        return [shard for shard in self.index.shards if shard.split == self.split]

    def file(self, folder: Path) -> Path:
        """The file in a folder; outside the data folder, the name contains a hash of the data's path."""
        key = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
        where = self.path.resolve()
        other = "" if folder.resolve() == where else f"-{hashlib.sha256(str(where).encode()).hexdigest()[:8]}"
        return folder / f"{self.kind}-{self.split}-{key}{other}.safetensors"

    def folders(self) -> list[Path]:
        """Where the file may be, best first: the folder that was asked for, the data folder, the cache folder."""
        asked = self.cache or chosen()
        found = [*([Path(asked)] if asked else []), self.path, cache_folder()]
        return list({folder.resolve(): folder for folder in found}.values())

    def read(self) -> Encoded:
        """Encode what is not stored yet, store it, and return everything.

        Raises UsageError or VidarError before anything is encoded if there is no place to store it, VidarError for a
        shard that is not the one in the index.
        """
        for folder in self.folders():
            if (found := self._complete(folder)) is not None:
                return found
        folder = self._place()
        check_output(self.file(folder))
        with self._alone(folder):
            if (found := self._complete(folder)) is None:  # another process may have encoded it meanwhile
                self._store(folder)
                found = self._complete(folder)
        clean(folder, [self.file(folder)])
        if found is None:
            raise VidarError(f"{self.file(folder)}: is damaged right after it was written; give another --cache DIR")
        return found

    def _place(self) -> Path:
        """The folder to write to, with enough space, in one line if it is not the data folder. Raises UsageError."""
        needed = int(self.frame_bytes() * sum(shard.frames for shard in self.shards))
        asked = self.cache or chosen()
        if asked:
            if problem := unwritable(Path(asked), needed):
                raise UsageError(f"{problem}; give another folder with --cache")
            return Path(asked)
        problems = list[str]()
        for folder in (self.path, cache_folder()):
            if problem := unwritable(folder):
                problems.append(problem)
            elif problem := unwritable(folder, needed):  # Choice: who has filled a disk decides what goes elsewhere
                raise UsageError(f"{problem}; make space, or give another folder with --cache")
            else:
                if problems:
                    say(f"{problems[0]}; what is encoded is kept in {folder} (--cache DIR: another folder)")
                return folder
        raise UsageError(f"no place for what {self.path} is encoded to: {'; '.join(problems)}; give one: --cache DIR")

    @contextmanager
    def _alone(self, folder: Path) -> Generator[None]:
        """Let no other process encode into this folder, where locks are possible; writing is atomic in any case."""
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(locked(folder / LOCK, lambda: say(f"waiting: another process encodes {self.path}")))
            yield

    def _complete(self, folder: Path) -> Encoded | None:
        """Everything, if the file in this folder has a sound part for every shard and no others."""
        held = hold(self.file(folder))
        if held is None:
            return None
        with suppress(Exception):  # what is wrong with it is found by `_stored`
            with safe_open(self.file(folder), "pt") as file:
                tensors, parts = _parts(file)
                whole = [one["shard"] for one, _ in parts] == [shard.sha256 for shard in self.shards]
                if whole and all(part.digest(one["shard"]) == one["sha256"] for one, part in parts):
                    return Encoded([part for _, part in parts], tensors, [held])
        held.close()
        return None

    def _store(self, folder: Path) -> None:
        """Encode what no file has, and write the file, meanwhile too; what was encoded before an error is written."""
        known = dict[str, Part]()
        for place in self.folders():
            known = {**self._stored(self.file(place)), **known}
        wanted = [shard for shard in self.shards if shard.sha256 not in known]
        if wanted:
            frames = sum(shard.frames for shard in wanted)
            stored = f"; {len(self.shards) - len(wanted)} of {len(self.shards)} shards are stored already"
            say(f"encoding {frames:,} frames of {self.path} as {self.kind}{stored if known else ''}")
        written = time.monotonic()
        try:
            for shard in wanted:
                self._check(shard)
                known[shard.sha256] = self.make(self._episodes(shard))
                if time.monotonic() - written > OFTEN:
                    self._write(folder, known)
                    written = time.monotonic()
        except BaseException:
            with suppress(VidarError):
                self._write(folder, known)
            raise
        self._write(folder, known)

    def _stored(self, path: Path) -> dict[str, Part]:
        """The sound parts in a file by the hash of their shard. Says what is damaged."""
        if not path.is_file():
            return {}
        names = {shard.sha256: shard.name for shard in self.shards}
        found = dict[str, Part]()
        try:
            with safe_open(path, "pt") as file:
                for one, part in _parts(file)[1]:
                    if part.digest(one["shard"]) == one["sha256"]:
                        found[one["shard"]] = part
                    else:
                        what = names.get(one["shard"], "a shard")
                        say(f"{path}: the part of {what} is damaged; it is encoded again")
        except Exception as error:  # a damaged header may fail anywhere
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            say(f"{path}: damaged ({reason}); its shards are encoded again")
        return found

    def _episodes(self, shard: Shard) -> Iterator[Episode]:
        for sample in samples(self.path, replace(self.index, shards=(shard,)), self.split):
            yield read_sample(sample, self.extras)

    def _check(self, shard: Shard) -> None:
        """Raises VidarError if a shard on disk is not the one in the index."""
        try:
            with (self.path / shard.name).open("rb") as stream:
                same = hashlib.file_digest(stream, "sha256").hexdigest() == shard.sha256
        except OSError as error:
            raise VidarError(f"{self.path / shard.name}: cannot be read ({error.strerror})") from None
        if not same:
            raise VidarError(
                f"{self.path / shard.name}: is not the file that {INDEX} lists; `vidar data validate {self.path}` says "
                "what is wrong"
            )

    def _write(self, folder: Path, known: Mapping[str, Part]) -> None:
        parts = [(shard.sha256, known[shard.sha256]) for shard in self.shards if shard.sha256 in known]
        if not parts:
            return
        told = [
            {
                "shard": sha256,
                "sha256": part.digest(sha256),
                "names": len(part.names),
                "rows": {name: len(value) for name, value in part.tensors.items()},
            }
            for sha256, part in parts
        ]
        tensors = {name: torch.cat([part.tensors[name] for _, part in parts]) for name in parts[0][1].tensors}
        names = "\n".join(name for _, part in parts for name in part.names)
        with replacing(self.file(folder)) as temporary:
            save_file(tensors, temporary, metadata={"names": names, "parts": json.dumps(told)})


def _parts(file: Any) -> tuple[dict[str, Tensor], list[tuple[dict[str, Any], Part]]]:
    """All tensors of an open file; and what is said of each part, with the part. Raises anything for damage."""
    known = file.metadata()
    names = known["names"].split("\n") if known["names"] else []
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name_at, at, parts = 0, dict.fromkeys(tensors, 0), list[tuple[dict[str, Any], Part]]()
    for one in json.loads(known["parts"]):
        slices = {name: tensors[name][at[name] : at[name] + rows] for name, rows in one["rows"].items()}
        parts.append((one, Part(slices, names[name_at : name_at + one["names"]])))
        name_at, at = name_at + one["names"], {name: at[name] + one["rows"][name] for name in at}
    if name_at != len(names) or any(at[name] != len(value) for name, value in tensors.items()):
        raise VidarError("its parts are not its content")
    return tensors, parts


def as_bytes(value: Any) -> Tensor:
    """Plain data as JSON in a tensor uint8 [N]."""
    return torch.from_numpy(np.frombuffer(json.dumps(value).encode(), np.uint8).copy())


def from_bytes(data: Tensor) -> Any:
    """Inverse of `as_bytes`."""
    return json.loads(data.numpy().tobytes())


def component_digest(folder: str) -> str:
    """A hash of a saved module. Raises UsageError if there is none."""
    found = hashlib.sha256()
    for name in (WEIGHTS, CONFIG):
        file = Path(folder) / name
        if not file.is_file():
            raise UsageError(f"{folder}: no tokenizer there; train one first: vidar train tokenizer_...")
        found.update(file.read_bytes())
    return found.hexdigest()
