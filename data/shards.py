"""Episodes -> webdataset shards: plain tar files that appear only when they are complete.

One sample of a shard `NAME-SPLIT-%06d.tar`:
    KEY.mp4  KEY.json  KEY.actions.npy  KEY.<extra>.npy (large uint8: .npz)  KEY.txt (caption, if there is one)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vidar.actions import ActionSpec
from vidar.config import to_dict
from vidar.data.atomic import TEMPORARY, lock, make_folder, publish, writing
from vidar.data.episode import Episode
from vidar.data.index import INDEX, SCHEMA, Index, Shard, load_index, name_of, save_index, shard_name
from vidar.data.reader import scan_shard, sides_digest
from vidar.data.video import encode_video
from vidar.types import UsageError, VidarError

KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")  # no dot, because webdataset splits key and extension at the first dot
EXTRA = re.compile(r"[a-z][a-z0-9_]{0,15}")
COMPRESS = 1 << 16  # larger uint8 extras (in bytes) are stored as .npz


class ShardWriter:
    """Writes the episodes of one split into a folder: `with ShardWriter(out, "train", spec) as w: w.write(episode)`.

    A killed writer leaves complete shards and an index that lists exactly those; the content of the open shard is
    lost. Another split, or more of the same split, may be added later. The writer holds its split until it is closed:
    other splits of the folder may be written at the same time, by other processes too.
    Raises UsageError if another writer holds the split, VidarError if the folder cannot take these data.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str],
        split: str,
        spec: ActionSpec,
        max_samples: int = 64,
        lossless: bool = False,
        crf: int = 18,
    ):
        self.folder = Path(out_dir)
        if not KEY.fullmatch(split):
            raise UsageError(f"split {split!r} must be letters, digits, - and _")
        if max_samples < 1:
            raise UsageError(f"max_samples is {max_samples}, must be at least 1")
        make_folder(self.folder)
        self.split, self.spec, self.max_samples, self.lossless, self.crf = split, spec, max_samples, lossless, crf
        self._open: io.FileIO | None = None
        self._samples = self._frames = 0
        self._format: tuple[float, int, int] | None = None
        with ExitStack() as held:
            busy = f"{self.folder}: another process is writing split {split!r} there; wait for it or stop it"
            held.enter_context(lock(self.folder / f".{split}.lock", busy))
            self.index = load_index(self.folder) if (self.folder / INDEX).exists() else None
            if self.index is not None:
                self._format = (self.index.fps, self.index.height, self.index.width)
                self._check_listed(self.index)
            self.keys = self._stored_keys()
            self._tidy()
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, episode: Episode) -> None:
        """Add one episode. Raises VidarError naming it, before anything is written, if it does not meet the
        documentation; if it cannot be written, the episodes before it stay.
        """
        members = self._members(episode)
        with writing(self._file()):
            if self._open is None:
                self._open = self._temporary().open("wb", buffering=0)
                self._samples = self._frames = 0
            _append(self._open, b"".join(_tar_member(f"{episode.name}.{n}", data) for n, data in members.items()))
        self._format = (float(episode.fps), *episode.frames.shape[1:3])
        self.keys.add(episode.name)
        self._samples += 1
        self._frames += len(episode.frames)
        if self._samples == self.max_samples:
            self._finish()

    def close(self) -> None:
        """Finish the open shard, list it and let go of the split. Raises VidarError if writing fails."""
        with self._held:
            self._finish()

    def _finish(self) -> None:
        """Publish the open shard and list it; the next episode opens another one."""
        if self._open is None:
            return
        file, temporary = self._file(), self._temporary()
        try:
            if not self._samples:
                return
            with writing(file):
                end = 2 * tarfile.BLOCKSIZE
                _append(self._open, bytes(end + -(self._open.tell() + end) % tarfile.RECORDSIZE))
                self._open.close()
                with temporary.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                sides = sides_digest(scan_shard(temporary))
                publish(temporary, file)
        finally:
            self._abandon()
        entry = Shard(file.name, self.split, self._samples, self._frames, file.stat().st_size, digest, sides)
        assert self._format is not None
        with lock(self.folder / f".{INDEX}.lock"):
            listed = load_index(self.folder) if (self.folder / INDEX).exists() else None
            if listed is not None:  # the writer of another split may have added to it
                self._check_listed(listed)
            self.index = Index(self.spec, *self._format, (*(listed.shards if listed else ()), entry))
            save_index(self.folder, self.index)

    def _check_listed(self, index: Index) -> None:
        """Raises VidarError if the folder holds data of another kind."""
        if index.spec != self.spec:
            names = ", ".join(index.spec.names) or "none"
            raise VidarError(f"{self.folder}: holds data with other actions ({names}); write to another folder")
        if self._format != (index.fps, index.height, index.width):
            raise VidarError(
                f"{self.folder}: another writer put videos with another fps or size there; write to a folder of its own"
            )

    def _tidy(self) -> None:
        """Remove the unfinished files of a killed writer of this split.

        Raises VidarError for files that this writer would replace although no killed writer left them: it leaves at
        most one finished shard that the index does not list, the next one. Without an index, such a shard may as well
        be a whole data set whose index was lost.
        """
        mine = re.compile(rf"{re.escape(name_of(self.folder))}-{self.split}-\d+\.tar({re.escape(TEMPORARY)}\d+)?")
        known = {self._file().name, *(shard.name for shard in self.index.shards)} if self.index else set[str]()
        for file in sorted(self.folder.iterdir()):
            found = mine.fullmatch(file.name)
            if found and found[1]:
                file.unlink(missing_ok=True)
            elif found and (file.name not in known or (file.name == self._file().name and not _is_shard(file))):
                raise VidarError(
                    f"{file}: is not listed in {INDEX}, which is missing or older; restore the index, or move the "
                    "shards away"
                )

    def _abandon(self) -> None:
        """Close and remove the open shard; a published one no longer has a temporary name."""
        if self._open is not None:
            self._open.close()
        self._open = None
        self._temporary().unlink(missing_ok=True)

    def _file(self) -> Path:
        listed = self.index.shards if self.index else ()
        return self.folder / shard_name(self.folder, self.split, [s.name for s in listed if s.split == self.split])

    def _temporary(self) -> Path:
        file = self._file()
        return file.with_name(f"{file.name}{TEMPORARY}{os.getpid()}")

    def _stored_keys(self) -> set[str]:
        mine = [shard for shard in (self.index.shards if self.index else ()) if shard.split == self.split]
        return {key for shard in mine for key in scan_shard(self.folder / shard.name).samples}

    def _members(self, episode: Episode) -> dict[str, bytes]:
        _check(episode, self.spec, self._format)
        if episode.name in self.keys:
            raise VidarError(
                f"episode {episode.name}: already exists in split {self.split!r} of {self.folder}; rename it"
            )
        where = f"episode {episode.name}"
        count, height, width = episode.frames.shape[:3]
        actions = checked_actions(self.spec, episode.actions, where)
        video = encode_video(episode.frames, episode.fps, crf=self.crf, lossless=self.lossless, name=where)
        extras = {n: pack_array(np.asarray(a), f"{where}: extra {n!r}") for n, a in episode.extras.items()}
        stored = pack_array(actions, f"{where}: actions")[1]
        side: dict[str, Any] = {
            "schema": SCHEMA,
            "n_frames": count,
            "fps": float(episode.fps),
            "height": height,
            "width": width,
            "action_space": to_dict(self.spec),
            "episode_id": episode.name,
            "start_frame": int(episode.meta.get("start_frame", 0)),
            "source": episode.source,
            "caption": episode.caption,
            "license": str(episode.meta.get("license", "")),
            "sha256_mp4": hashlib.sha256(video).hexdigest(),
            "sha256_actions": hashlib.sha256(stored).hexdigest(),
            "sha256_extras": {n: hashlib.sha256(data).hexdigest() for n, (_, data) in extras.items()},
            "meta": dict(episode.meta),
        }
        try:
            text = json.dumps(side, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise VidarError(f"{where}: meta is not plain JSON: {error}") from None
        members = {"mp4": video, "json": text, "actions.npy": stored}
        members |= {f"{n}.{suffix}": data for n, (suffix, data) in extras.items()}
        return members | ({"txt": episode.caption.encode()} if episode.caption else {})


def _is_shard(file: Path) -> bool:
    """Whether a file is a whole shard of vidar."""
    scan = scan_shard(file)
    return not scan.problem and all("json" in sample.members for sample in scan.samples.values())


def _tar_member(name: str, data: bytes) -> bytes:
    """A plain file of a tar: header, content, padding."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _append(file: io.FileIO, data: bytes) -> None:
    """Append all of `data`, or nothing. Raises OSError."""
    start, rest = file.tell(), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.seek(start)
        file.truncate()
        raise


def checked_actions(spec: ActionSpec, actions: np.ndarray, where: str) -> np.ndarray:
    """float32 [T, A] with row 0 (never read) set to zeros; all other rows are checked against the spec."""
    values = np.array(actions)
    if values.ndim == 2 and values.shape[1] == spec.width and len(values):
        values[0] = spec.noop().astype(values.dtype)  # zeros need not be legal values
    values = spec.validate_actions(values, where)
    values[0] = 0
    return values


def pack_array(array: np.ndarray, where: str) -> tuple[str, bytes]:
    """(suffix, bytes): .npy, or a compressed .npz for a large uint8 array. Equal arrays give equal bytes.

    Raises VidarError for an array of Python objects.
    """
    if array.dtype.hasobject:
        raise VidarError(f"{where}: holds Python objects; only plain numbers are stored")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    if array.dtype != np.uint8 or array.nbytes <= COMPRESS:
        return "npy", buffer.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("data.npy")  # dated 1980; numpy would write the current time
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, buffer.getvalue(), compresslevel=3)
    return "npz", packed.getvalue()


def _check(episode: Episode, spec: ActionSpec, fixed: tuple[float, int, int] | None) -> None:
    name, frames = episode.name, episode.frames
    if not KEY.fullmatch(name):
        raise VidarError(f"episode {name!r}: a name is 1 to 80 letters, digits, - and _ (no dot, no slash)")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise VidarError(f"episode {name}: frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    if len(frames) < 2:
        raise VidarError(f"episode {name}: has {len(frames)} frame(s), at least 2 are needed for one action")
    if episode.spec != spec:
        raise VidarError(f"episode {name}: its ActionSpec differs from the writer's ({', '.join(spec.names)})")
    if len(episode.actions) != len(frames):
        raise VidarError(f"episode {name}: {len(episode.actions)} action rows for {len(frames)} frames; one per frame")
    mine = (float(episode.fps), *frames.shape[1:3])
    if fixed is not None and mine != fixed:
        raise VidarError(
            f"episode {name}: {mine[0]:g} fps, height {mine[1]}, width {mine[2]}; the data set has {fixed[0]:g} fps, "
            f"height {fixed[1]}, width {fixed[2]}; write it to a folder of its own"
        )
    for extra, array in episode.extras.items():
        if not EXTRA.fullmatch(extra) or extra == "actions":
            raise VidarError(f"episode {name}: extra {extra!r}: a name is 1 to 16 of a-z, 0-9, _ and not 'actions'")
        if np.ndim(array) < 1 or len(array) != len(frames):
            raise VidarError(f"episode {name}: extra {extra!r} needs one row per frame ({len(frames)})")
