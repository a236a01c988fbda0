"""A folder of recordings: NAME.mp4 with NAME.csv (its actions) or NAME.txt (its caption), or both."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from vidar.data.captions import METADATA, read_captions
from vidar.data.tables import READERS
from vidar.types import VidarError

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
BESIDE = (".yaml", ".yml", ".json", ".dream", ".md")  # files that often lie beside recordings and hold none


@dataclass(frozen=True)
class Recording:
    """One video. stem: its file name without suffix, in composed Unicode. table: its actions (None: it has none)."""

    video: Path
    stem: str
    table: Path | None
    caption: str

    @property
    def file(self) -> str:
        """The name of the video, in composed Unicode."""
        return f"{self.stem}{self.video.suffix}"


def find_recordings(folder: Path, actions: bool) -> tuple[list[Recording], list[str]]:
    """The recordings of a folder, in the order of their names, and the names of the files that are passed over.

    actions: whether each video needs a table of actions; if not, none may have one.
    Raises VidarError for a missing or doubtful file.
    """
    if not folder.is_dir():
        raise VidarError(f"{folder}: no such folder of videos")
    hidden, files = _files(folder)
    videos = [file for file in files if _is_video(file)]
    if not videos:
        raise VidarError(f"{folder}: contains no {', '.join(VIDEOS)} file; subfolders are not searched")
    beside: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)  # (kind, stem) -> files
    for file in files:
        kind = _kind(file)
        if kind:
            beside[kind, stem(file)].append(file)
    for (_, name), several in beside.items():
        if len(several) > 1 and ("video", name) in beside:
            raise VidarError(f"{several[1]}: has the same name as {several[0].name}; rename or remove one of them")
    names = [stem(video) for video in videos]
    metadata = [file for file in files if file.name.lower() in METADATA and "metadata" not in names]
    if len(metadata) > 1:
        raise VidarError(f"{metadata[1]}: {metadata[0].name} holds the captions too; remove one of them")
    tables = [next(iter(beside["table", name]), None) for name in names]
    for video, name, table in zip(videos, names, tables):
        if actions and table is None:
            raise VidarError(f"{folder / name}.csv: missing; {video.name} needs a table of its actions")
        if table is not None and not actions:
            raise VidarError(f"{table}: holds actions; give --spec, which describes them, or remove the table")
    texts = [next(iter(beside["text", name]), None) for name in names]
    captions = read_captions(videos, texts, metadata[0] if metadata else None)
    used = {*videos, *tables, *texts, *metadata}
    passed = [f"{file.name}/" if file.is_dir() else file.name for file in files if file not in used]
    return [Recording(*parts) for parts in zip(videos, names, tables, captions)], [*hidden, *passed]


def _is_video(file: Path) -> bool:
    """Raises VidarError for the name of a video that is no file, so that no recording gets lost unnoticed."""
    if _kind(file) != "video" or file.is_file():
        return _kind(file) == "video"
    kind = "a folder" if file.is_dir() else "a link that leads nowhere" if file.is_symlink() else "not a regular file"
    raise VidarError(f"{file}: has the name of a video, but is {kind}; restore the video, or move this away")


def _files(folder: Path) -> tuple[list[str], list[Path]]:
    """Names of hidden files that look like recordings, and everything else that may be one."""
    hidden: list[str] = []
    files: list[Path] = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):  # ._NAME.mp4 holds what macOS knows about NAME.mp4
            hidden += [file.name] if _kind(file) else []
        elif file.suffix.lower() not in BESIDE:
            files.append(file)
    return hidden, files


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    return "video" if suffix in VIDEOS else "table" if suffix in READERS else "text" if suffix == ".txt" else ""


def stem(file: Path) -> str:
    """The name of a file without its suffix, the same on every system: composed Unicode, valid UTF-8."""
    return unicodedata.normalize("NFC", os.fsencode(file.stem).decode("utf-8", "replace"))
