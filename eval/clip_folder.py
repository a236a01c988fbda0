"""A folder of generated clips with a manifest of what each must be: written as they are made, resumed, and checked.

manifest.json holds the settings of all clips and one entry per wanted clip: its file, what the caller tells about it
(prompt, index, seed, ...), and once it is made `sha256, bytes, frames, height, width, fps, range, matrix`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av

from vidar.data.atomic import replacing
from vidar.data.outputs import is_ours
from vidar.data.video import video_info
from vidar.types import UsageError, VidarError

MANIFEST = "manifest.json"
SCHEMA = 1
EVERY_S = 1.0  # between two writes of the manifest
RANGES = {0: "unspecified", 1: "limited", 2: "full"}
MATRICES = {1: "bt709", 2: "unspecified", 5: "bt601", 6: "bt601"}
MEASURED = ("frames", "height", "width", "fps", "range", "matrix")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file. kind: missing, undecodable, changed, or the name of a measure in `MEASURED`."""

    file: str
    kind: str
    text: str


def measure(file: Path) -> dict[str, Any]:
    """Decode a whole clip: the measures of `MEASURED`. Raises VidarError if it cannot be decoded.

    range, matrix: how the file says that colours are coded.
    """
    info = video_info(file, str(file))
    with av.open(str(file)) as video:
        context = video.streams.video[0].codec_context
        told, matrix = int(context.color_range), int(context.colorspace)
    full = str(context.pix_fmt).startswith("yuvj")
    return {
        "frames": info.frames,
        "height": info.height,
        "width": info.width,
        "fps": round(info.fps, 6),
        "range": "full" if full else RANGES.get(told, str(told)),
        "matrix": MATRICES.get(matrix, str(matrix)),
    }


def sha256(file: Path) -> str:
    """The SHA-256 of a file as 64 hex digits. Raises VidarError if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise VidarError(f"{file}: cannot be read: {error.strerror}") from None


class ClipFolder:
    """The manifest of a folder. kind: what made it, such as "vbench"; a manifest of another kind is refused."""

    def __init__(self, folder: Path, kind: str, must_exist: bool = False) -> None:
        """Read the manifest if there is one. Raises UsageError if it is none of this kind, or damaged."""
        self.folder, self.file = folder, folder / MANIFEST
        self.header: dict[str, Any] = {"schema": SCHEMA, "kind": kind}
        self.clips: list[dict[str, Any]] = []
        self._written = 0.0
        if self.file.is_file():
            self._read(kind)
        elif must_exist:
            raise UsageError(f"{folder}: holds no {MANIFEST} of {kind}; give the folder that was given with --out")

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Set the settings of all clips. Raises UsageError if the clips in the folder were made with others."""
        for name, value in settings.items():
            if self.header.setdefault(name, value) != value and any("sha256" in clip for clip in self.clips):
                raise UsageError(
                    f"{self.folder}: its clips were made with {name} {_short(self.header[name])}, not {_short(value)}; "
                    "leave that as it was, or give another folder"
                )
            self.header[name] = value

    def enter(self, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Enter the wanted clips, in their order, and return the entries of those that are to be made.

        A clip that is there as the manifest says is kept. One that is not is made again if vidar wrote it. Entries of
        clips that are no longer wanted stay behind the wanted ones while their files exist.
        Raises UsageError for a file of another origin under the name of a wanted clip, and for an entry that was made
        with another seed or prompt.
        """
        known = {str(clip["file"]): clip for clip in self.clips}
        entries, todo = list[dict[str, Any]](), list[dict[str, Any]]()
        for want in wanted:
            name = str(want["file"])
            entry = known.pop(name, {})
            if "sha256" in entry and (other := [key for key in ("seed", "prompt") if entry.get(key) != want.get(key)]):
                raise UsageError(
                    f"{self.folder / name}: was made with {other[0]} {entry.get(other[0])!r}, not "
                    f"{want.get(other[0])!r}; give another folder"
                )
            entry = {**entry, **want}
            entries.append(entry)
            if not self._whole(entry):
                for key in ("sha256", "bytes", *MEASURED):
                    entry.pop(key, None)
                todo.append(entry)
        self.clips = entries + [clip for name, clip in known.items() if (self.folder / name).is_file()]
        return todo

    def note(self, entry: dict[str, Any], measured: Mapping[str, Any]) -> None:
        """Note that a clip was made. The manifest is written at most once a second; `save` writes it in any case."""
        entry.update(measured)
        if time.monotonic() - self._written > EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the manifest."""
        with replacing(self.file) as temporary:
            temporary.write_text(json.dumps({**self.header, "clips": self.clips}, indent=1) + "\n")
        self._written = time.monotonic()

    def problems(self, expected: Mapping[str, Any] | None = None) -> Iterator[Problem]:
        """Decode every clip and yield what is wrong with it, in the order of the manifest.

        expected: measures that every clip must have, beside those that the manifest tells of it.
        """
        for clip in self.clips:
            yield from self._problems(clip, expected or {})

    def _problems(self, clip: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[Problem]:
        name = str(clip["file"])
        file = self.folder / name
        if not file.is_file():
            yield Problem(name, "missing", "does not exist")
            return
        told = {key: clip[key] for key in MEASURED if key in clip} | dict(expected)
        try:
            found = measure(file)
        except VidarError as error:
            yield Problem(name, "undecodable", str(error).removeprefix(f"{file}: "))
            return
        for key, value in told.items():
            if found[key] != value:
                yield Problem(name, key, f"{key} is {found[key]}, expected {value}")
        if found["range"] == "full" and "range" not in told:
            yield Problem(name, "range", "is coded in full range, which readers that ignore the tag darken")
        if "sha256" in clip and sha256(file) != clip["sha256"]:
            yield Problem(name, "changed", "is not the file that the manifest describes")

    def _whole(self, entry: Mapping[str, Any]) -> bool:
        """Whether a clip is there as its entry says. Raises UsageError for a file of another origin."""
        file = self.folder / str(entry["file"])
        if not file.exists():
            return False
        if "sha256" in entry and file.is_file() and sha256(file) == entry["sha256"]:
            return True
        if not file.is_file() or not is_ours(file):
            raise UsageError(f"{file}: exists, and vidar did not write it; give another folder, or move it away")
        return False

    def _read(self, kind: str) -> None:
        try:
            stored = cast(dict[str, Any], json.loads(self.file.read_text()))
            clips = cast(list[dict[str, Any]], stored.pop("clips"))
            known = stored["schema"], stored["kind"]
            inside = all(_inside(str(clip["file"])) for clip in clips)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{self.file}: damaged; give another folder, or move it away") from None
        if known != (SCHEMA, kind) or not inside:
            raise UsageError(f"{self.file}: is no manifest of {kind} in schema {SCHEMA}; give another folder")
        self.header, self.clips = stored, clips


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
