"""Shards -> episodes. Files are not trusted: members are on an allow-list, headers are checked, hashes are verified.

The tar headers are parsed here, and nothing is ever extracted: a member is a name, an offset and a size. Links,
devices, absolute paths, `..`, oversized members and long-name extensions make a shard invalid.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vidar.actions import ActionSpec
from vidar.config import from_dict, to_dict
from vidar.data.cache import say
from vidar.data.episode import Episode
from vidar.data.index import INDEX, SCHEMA, Index, Shard, load_index
from vidar.data.text import check_regular
from vidar.data.video import decode_video
from vidar.types import UsageError, VidarError

LIMITS = {"json": 1 << 20, "txt": 1 << 20}  # maximum bytes by extension
LIMIT = 4 << 30  # maximum bytes of every other member, and of an unpacked array
_BLOCK = 512
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "n_frames": int,
    "fps": (int, float),
    "height": int,
    "width": int,
    "action_space": dict,
    "episode_id": str,
    "start_frame": int,
    "source": str,
    "caption": str,
    "license": str,
    "sha256_mp4": str,
    "sha256_actions": str,
    "sha256_extras": dict,
    "meta": dict,
}


@dataclass(frozen=True)
class Sample:
    """One sample of a shard. members: extension -> (offset, size) in the file."""

    file: Path
    key: str
    members: Mapping[str, tuple[int, int]]

    @property
    def name(self) -> str:
        """`shard:key`, for messages."""
        return f"{self.file.name}:{self.key}"

    def read(self, extension: str) -> bytes:
        """The bytes of a member. Raises VidarError if it is missing, oversized or cut off."""
        if extension not in self.members:
            raise VidarError(f"{self.name}: has no .{extension} member")
        offset, size = self.members[extension]
        limit = LIMITS.get(extension, LIMIT)
        if size > limit:
            raise VidarError(f"{self.name}: .{extension} has {size} bytes, more than the allowed {limit}")
        try:
            with self.file.open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise VidarError(f"{self.file}: cannot be read: {error.strerror}") from None
        if len(data) != size:
            raise VidarError(f"{self.name}: .{extension} is cut off; the shard is truncated")
        return data


@dataclass(frozen=True)
class Scan:
    """The content of a shard: samples by key, in file order, and why the scan ended early ("": it did not)."""

    samples: Mapping[str, Sample]
    problem: str


def scan_shard(file: Path) -> Scan:
    """Read the headers of a shard. Never raises: damage ends the scan, and everything before it is kept."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    problem = ""
    try:
        check_regular(file)
        with file.open("rb") as stream:
            for name, offset, size in _tar_members(stream, file.stat().st_size):
                key, _, extension = name.partition(".")
                found.setdefault(key, {})[extension.lower()] = (offset, size)
    except OSError as error:
        problem = f"{file.name}: cannot be read: {error.strerror}"
    except VidarError as error:
        problem = f"{file.name}: {error}"
    return Scan({key: Sample(file, key, members) for key, members in found.items()}, problem)


def _tar_members(stream: BinaryIO, length: int) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of the plain files of a POSIX tar."""
    position = 0
    while True:
        stream.seek(position)
        header = stream.read(_BLOCK)
        if len(header) < _BLOCK:
            raise VidarError("is empty" if length == 0 else f"is truncated at byte {position}")
        if header == bytes(_BLOCK):
            return
        try:
            declared = int(header[148:156].split(b"\0")[0], 8)
            size = int(header[124:136].rstrip(b" \0"), 8)
            name = header[:100].split(b"\0")[0].decode("ascii")
        except ValueError:
            raise VidarError(f"has a damaged header at byte {position}") from None
        if declared != sum(header) - sum(header[148:156]) + 8 * 32 or size < 0:
            raise VidarError(f"has a damaged header at byte {position}")
        if header[156:157] not in (b"0", b"\0"):
            raise VidarError(f"member {name!r} is not a plain file (links, devices and long names are refused)")
        if not name or "/" in name or "\\" in name or ".." in name or any(header[345:500]):
            raise VidarError(f"member {name!r} has a path in its name")
        if position + _BLOCK + size > length:
            raise VidarError(f"is truncated inside member {name!r}")
        yield name, position + _BLOCK, size
        position += _BLOCK + -(-size // _BLOCK) * _BLOCK


def read_side(sample: Sample) -> dict[str, Any]:
    """The side file of a sample, checked. Raises VidarError naming the sample and the field."""
    try:
        side = json.loads(sample.read("json"))
    except (ValueError, RecursionError):
        raise VidarError(f"{sample.name}: .json is not valid JSON") from None
    if not isinstance(side, dict) or side.get("schema") != SCHEMA:
        raise VidarError(f"{sample.name}: .json has no 'schema': {SCHEMA}")
    for field, kind in _FIELDS.items():
        if not isinstance(side.get(field), kind) or isinstance(side.get(field), bool):
            raise VidarError(f"{sample.name}: .json: {field!r} is missing or of the wrong kind")
    if side["n_frames"] < 2 or side["height"] < 1 or side["width"] < 1 or not 0 < side["fps"] < 1e6:
        raise VidarError(f"{sample.name}: .json: n_frames, height, width or fps is out of range")
    return side


def read_spec(sample: Sample, side: Mapping[str, Any]) -> ActionSpec:
    """The ActionSpec of a side file. Raises VidarError naming the sample."""
    try:
        spec = from_dict(side["action_space"])
    except (UsageError, TypeError, ValueError, RecursionError) as error:
        raise VidarError(f"{sample.name}: .json: action_space: {error}") from None
    if not isinstance(spec, ActionSpec):
        raise VidarError(f"{sample.name}: .json: action_space is not an ActionSpec")
    return spec


def misfit(sample: Sample, side: Mapping[str, Any], index: Index) -> str:
    """How a sample differs from the index of its data set ("": in nothing). Raises VidarError for a bad ActionSpec."""
    for name in ("height", "width", "fps"):
        if side[name] != getattr(index, name):
            return f".json: {name} {side[name]} differs from {INDEX}, which says {getattr(index, name)}"
    if side["action_space"] != to_dict(index.spec) and read_spec(sample, side) != index.spec:
        return f".json: action_space differs from {INDEX}"
    return ""


def read_video_bytes(sample: Sample, side: Mapping[str, Any]) -> bytes:
    """The mp4 of a sample; its hash is verified."""
    return _verified(sample, "mp4", side["sha256_mp4"])


def decode_frames(
    sample: Sample, side: Mapping[str, Any], video: bytes, start: int = 0, count: int | None = None
) -> np.ndarray:
    """uint8 [T, H, W, 3] in the stored size, without padding.

    Raises VidarError if the count differs from the side file.
    """
    frames = decode_video(video, start, side["n_frames"] - start if count is None else count, name=sample.name)
    height, width = side["height"], side["width"]
    if not (0 <= frames.shape[1] - height <= 1 and 0 <= frames.shape[2] - width <= 1):
        raise VidarError(
            f"{sample.name}: video is {frames.shape[1]} x {frames.shape[2]}, .json says {height} x {width}"
        )
    return frames[:, :height, :width]


def read_actions(sample: Sample, side: Mapping[str, Any], width: int) -> np.ndarray:
    """float32 [T, A]; hash and shape are verified. Raises VidarError naming the sample."""
    actions = _array(_verified(sample, "actions.npy", side["sha256_actions"]), sample.name, "actions.npy")
    if actions.dtype != np.float32 or actions.shape != (side["n_frames"], width):
        raise VidarError(
            f"{sample.name}: actions are {actions.dtype} {list(actions.shape)}, "
            f"expected float32 [{side['n_frames']}, {width}]"
        )
    return actions


def read_extra(sample: Sample, side: Mapping[str, Any], extra: str) -> np.ndarray:
    """An extra [T, ...] by name; hash and length are verified. Raises VidarError naming the sample and what it has."""
    if extra not in side["sha256_extras"]:
        there = ", ".join(side["sha256_extras"]) or "none"
        raise VidarError(f"{sample.name}: has no extra {extra!r}; available: {there}")
    extension = f"{extra}.npz" if f"{extra}.npz" in sample.members else f"{extra}.npy"
    data = _verified(sample, extension, side["sha256_extras"][extra])
    if extension.endswith("npz"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if archive.getinfo("data.npy").file_size > LIMIT:
                    raise VidarError(f"{sample.name}: extra {extra!r} unpacks to more than {LIMIT} bytes")
                data = archive.read("data.npy")
        except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError):
            raise VidarError(f"{sample.name}: .{extension} is not a valid archive") from None
    array = _array(data, sample.name, extension)
    if array.ndim < 1 or len(array) != side["n_frames"]:
        raise VidarError(f"{sample.name}: extra {extra!r} has shape {list(array.shape)} for {side['n_frames']} frames")
    return array


def _verified(sample: Sample, extension: str, sha256: str) -> bytes:
    data = sample.read(extension)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise VidarError(f"{sample.name}: .{extension} does not match its sha256; the shard is damaged")
    return data


def _array(data: bytes, name: str, extension: str) -> np.ndarray:
    """An .npy array from bytes; never unpickles, and never allocates more than the bytes contain."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = parse(stream)
        flat = np.frombuffer(data, dtype, offset=stream.tell())  # rejects objects and an incomplete last number
        return flat.reshape(shape, order="F" if fortran else "C").copy()
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError):
        raise VidarError(f"{name}: .{extension} is not a plain array") from None


def samples(path: str | os.PathLike[str], index: Index, split: str) -> list[Sample]:
    """All samples of a split, in writing order; their side files are checked.

    Raises VidarError for an unknown split or a damaged shard.
    """
    if split not in index.splits():
        remedy = "; record one, or convert with --heldout 0.1" if split == "heldout" else ""
        raise VidarError(f"{path}: has no split {split!r}; available: {', '.join(index.splits()) or 'none'}{remedy}")
    found: list[Sample] = []
    for shard in index.shards:
        if shard.split == split:
            file = Path(path) / shard.name
            scan = scan_shard(file)
            if problem := scan.problem or _difference(scan, shard, index, file):
                raise VidarError(f"{path}: {problem}; `vidar data validate {path}` lists what is damaged")
            found.extend(scan.samples.values())
    if not found:
        raise VidarError(f"{path}: split {split!r} holds no episode; `vidar data validate {path}` says why")
    return found


def sides_digest(scan: Scan) -> str:
    """sha256 of all side files of a shard, in order. Raises VidarError if one cannot be read."""
    digest = hashlib.sha256()
    for sample in scan.samples.values():
        digest.update(sample.read("json"))
    return digest.hexdigest()


def _difference(scan: Scan, shard: Shard, index: Index, file: Path) -> str:
    """How a shard differs from the index, as far as its headers and side files tell ("": in nothing)."""
    if (len(scan.samples), file.stat().st_size) != (shard.samples, shard.bytes):
        return f"{shard.name}: is not the file that {INDEX} lists"
    try:
        if shard.sides and sides_digest(scan) != shard.sides:
            return f"{shard.name}: a .json in it was changed; the shard is damaged"
        for sample in scan.samples.values():
            if problem := misfit(sample, read_side(sample), index):
                return f"{sample.name}: {problem}"
    except VidarError as error:
        return str(error)
    return ""


def check_clips(path: str | os.PathLike[str], split: str, frames: int, remedy: str) -> None:
    """Look, in the side files alone, for episodes that are shorter than a clip of `frames` frames.

    Raises VidarError if all of them are, and says how many are not used if some are.
    """
    lengths = [read_side(sample)["n_frames"] for sample in samples(path, load_index(path), split)]
    longest, short = max(lengths), sum(length < frames for length in lengths)
    if longest < frames:
        raise VidarError(
            f"{path}: longest episode of split {split!r} has {longest} frames, a clip needs {frames}; record longer "
            f"episodes, or set {remedy} to at most {longest}"
        )
    say_short(path, split, short, len(lengths), frames, remedy)


def say_short(path: str | os.PathLike[str], split: str, short: int, episodes: int, frames: int, remedy: str) -> None:
    """Say how many episodes are not used because they are shorter than a clip of `frames` frames, if there are any."""
    if short:
        say(
            f"{path}: {short} of {episodes} episodes of split {split!r} are shorter than a clip of {frames} frames and "
            f"are not used; to use them, set {remedy} to fewer"
        )


def read_sample(sample: Sample, extras: Sequence[str] | None = None) -> Episode:
    """A whole sample as an Episode; extras None: all of them."""
    side = read_side(sample)
    spec = read_spec(sample, side)
    names = side["sha256_extras"] if extras is None else extras
    return Episode(
        frames=decode_frames(sample, side, read_video_bytes(sample, side)),
        actions=read_actions(sample, side, spec.width),
        fps=float(side["fps"]),
        spec=spec,
        name=sample.key,
        source=side["source"],
        extras={extra: read_extra(sample, side, extra) for extra in names},
        caption=side["caption"],
        meta=side["meta"],
    )


def episodes(path: str | os.PathLike[str], split: str, extras: Sequence[str] | None = None) -> Iterator[Episode]:
    """All episodes of a split, in writing order, one in memory at a time."""
    for sample in samples(path, load_index(path), split):
        yield read_sample(sample, extras)


def read_episode(
    path: str | os.PathLike[str], split: str, which: int | str, extras: Sequence[str] | None = None
) -> Episode:
    """One episode by number or key. Raises VidarError naming the valid range."""
    found = samples(path, load_index(path), split)
    if isinstance(which, str):
        match = [sample for sample in found if sample.key == which]
    else:
        match = found[which : which + 1] if which >= 0 else []
    if not match:
        raise VidarError(f"{path}: split {split!r} has no episode {which!r}; it has {len(found)}, from {found[0].key}")
    return read_sample(match[0], extras)


@dataclass(frozen=True)
class DataInfo:
    """A summary of a data set. splits: split -> episodes; episodes and frames: over all splits."""

    spec: ActionSpec
    fps: float
    height: int
    width: int
    splits: Mapping[str, int]
    episodes: int
    frames: int


def data_info(path: str | os.PathLike[str]) -> DataInfo:
    """The summary from the index, without opening a shard."""
    index = load_index(path)
    splits = {split: sum(s.samples for s in index.shards if s.split == split) for split in index.splits()}
    frames = sum(shard.frames for shard in index.shards)
    return DataInfo(index.spec, index.fps, index.height, index.width, splits, sum(splits.values()), frames)
