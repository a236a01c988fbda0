"""Captions of a folder of videos: NAME.txt beside a video, or one metadata.csv or metadata.jsonl for all of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from vidar.data.tables import READERS
from vidar.data.text import read_text
from vidar.types import VidarError

METADATA = ("metadata.csv", "metadata.jsonl")
NAMES = ("file_name", "text", "caption")


def read_captions(videos: Sequence[Path], texts: Sequence[Path | None], metadata: Path | None) -> list[str]:
    """The caption of each video; all of them are empty if there is neither a text nor a metadata file.

    texts: the file with the caption of each video. metadata: a table with the columns file_name and text (or caption).
    Raises VidarError naming the file and line if a caption is missing, empty or given twice.
    """
    found = _read_metadata(metadata, {video.name for video in videos}) if metadata is not None else {}
    captions: list[str] = []
    for video, text in zip(videos, texts):
        if text is not None and video.name in found:
            raise VidarError(f"{text}: {metadata} holds a caption of {video.name} too; remove one of them")
        captions.append(found.get(video.name, "") if text is None else _read_caption(text))
    if any(captions) and not all(captions):
        video = videos[captions.index("")]
        where = f"{video.stem}.txt" if metadata is None else f"{video.stem}.txt or a line in {metadata.name}"
        raise VidarError(f"{video}: has no caption, but other videos of the folder have one; write it to {where}")
    return captions


def _read_caption(file: Path) -> str:
    caption = read_text(file).strip()
    if not caption:
        raise VidarError(f"{file}: is empty; write the caption of the video into it, or remove it")
    return _checked(caption, str(file))


def _checked(caption: str, where: str) -> str:
    """The caption. Raises VidarError for control characters: they come from damage, or from a file of another kind."""
    for number, sign in enumerate(caption):
        if unicodedata.category(sign) == "Cc" and sign not in "\t\n\r":
            raise VidarError(f"{where}: character {number} of the caption is {sign!r}, which no text holds; correct it")
    return caption


def _read_metadata(file: Path, videos: set[str]) -> dict[str, str]:
    cells = READERS[file.suffix.lower()](file)
    columns = [name for name in NAMES if name in cells.header]
    if len(columns) != 2 or columns[0] != NAMES[0]:
        raise VidarError(
            f"{file}: header is {', '.join(cells.header) or 'empty'}; expected file_name and one of text and caption"
        )
    named, said = (cells.header.index(column) for column in columns)
    captions: dict[str, str] = {}
    for line, row in zip(cells.lines, cells.rows):
        name, caption = row[named], row[said]
        if not isinstance(name, str) or name not in videos:
            raise VidarError(f"{file}: {cells.unit} {line}: {name!r} is not the name of a video of this folder")
        if name in captions:
            raise VidarError(f"{file}: {cells.unit} {line}: a second caption of {name}; remove one of them")
        if not isinstance(caption, str) or not caption.strip():
            raise VidarError(f"{file}: {cells.unit} {line}: the caption of {name} is empty")
        captions[name] = _checked(caption.strip(), f"{file}: {cells.unit} {line}")
    return captions
