"""What earlier conversions have stored in a data folder, and which part of a new conversion is there already."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidar.data.index import INDEX, Index, load_index
from vidar.data.reader import read_side, samples
from vidar.data.recordings import Recording
from vidar.types import VidarError

HELD_OUT = "heldout"  # name of the split of `--heldout`


@dataclass(frozen=True)
class Source:
    """A recording to convert.

    content: the hash of the video file. options: the hash of everything else that its episodes depend on.
    """

    recording: Recording
    content: str
    options: str


@dataclass(frozen=True)
class Stored:
    """An episode of a data folder, and the recording that it was converted from (options "": it was not converted).

    file: the name of the video. name: of all episodes of the recording, without the number of the piece.
    """

    split: str
    key: str
    file: str = ""
    name: str = ""
    piece: int = 0
    pieces: int = 0
    content: str = ""
    options: str = ""

    @staticmethod
    def of(split: str, key: str, meta: Mapping[str, Any]) -> Stored:
        """From the meta data of an episode."""
        found = meta.get("converted")
        try:
            return Stored(split, key, **found) if isinstance(found, dict) else Stored(split, key)
        except TypeError:
            return Stored(split, key)


@dataclass(frozen=True)
class Assigned:
    """A recording and its split. stored: its episodes that are there already, by the number of the piece."""

    source: Source
    split: str
    stored: Mapping[int, Stored] = field(default_factory=dict[int, Stored])

    @property
    def complete(self) -> bool:
        """Whether every episode is there already."""
        return bool(self.stored) and len(self.stored) == next(iter(self.stored.values())).pieces


def read_stored(out: Path) -> tuple[Index | None, list[Stored]]:
    """The index and the episodes of a data folder, from the side files. Raises VidarError for a damaged folder."""
    if not (out / INDEX).exists():
        return None, []
    index = load_index(out)
    every = [(split, sample) for split in index.splits() for sample in samples(out, index, split)]
    return index, [Stored.of(split, sample.key, read_side(sample)["meta"]) for split, sample in every]


def assign(
    sources: Sequence[Source], stored: Sequence[Stored], out: Path, split: str, heldout: float, resume: bool
) -> list[Assigned]:
    """A split for each recording, and which of its episodes are there already.

    heldout: the share of the recordings that go to the split `heldout` instead of `split`, chosen by the hash of their
    names. Recordings with the same content go together, and stored ones stay in their split.
    resume: whether `split` may hold episodes of other recordings.
    Raises VidarError if a stored recording differs, if one is in another split already, or for episodes of other
    recordings without `resume`.
    """
    splits = (split, HELD_OUT) if heldout else (split,)
    files = {source.recording.file for source in sources}
    mine: defaultdict[str, list[Stored]] = defaultdict(list)
    others: list[Stored] = []
    for episode in stored:
        if episode.split in splits:
            (mine[episode.file] if episode.options and episode.file in files else others).append(episode)
    if others and not resume:
        raise VidarError(
            f"{out}: split {others[0].split!r} holds {len(others)} episodes of other recordings, the first is "
            f"{others[0].key}; --resume keeps them and adds the new ones"
        )
    held = _held_out(sources, mine, heldout)
    assigned: list[Assigned] = []
    for source in sources:
        found = mine.get(source.recording.file, [])
        _check_same(source, found, out)
        place = found[0].split if found else HELD_OUT if source.content in held else split
        assigned.append(Assigned(source, place, {episode.piece: episode for episode in found}))
    _check_splits(assigned, stored, out)
    return assigned


def _held_out(sources: Sequence[Source], mine: Mapping[str, Sequence[Stored]], share: float) -> set[str]:
    """The contents that are held out: round(share * number), at least 1, and at least 1 is left over."""
    if not share:
        return set()
    names: dict[str, str] = {}
    for source in sources:
        names.setdefault(source.content, source.recording.stem)
    if len(names) < 2:
        raise VidarError(f"--heldout needs at least 2 different recordings, there is {len(names)}")
    places = {episode.content: episode.split for found in mine.values() for episode in found}
    free = sorted(
        (content for content in names if content not in places),
        key=lambda content: hashlib.sha256(names[content].encode()).hexdigest(),
    )
    there = {content for content, place in places.items() if place == HELD_OUT}
    wanted = min(max(1, round(share * len(names))), len(names) - 1) - len(there)
    return there | set(free[: max(0, wanted)])


def _check_same(source: Source, found: Sequence[Stored], out: Path) -> None:
    video = source.recording.video
    for episode in found:
        if episode.content != source.content:
            what = "another video of this name"
        elif episode.options != source.options:
            what = "this video with another table or caption, or converted with other options"
        else:
            continue
        raise VidarError(
            f"{video}: split {episode.split!r} of {out} holds {what} (episode {episode.key}); rename the video, or "
            "write to another folder"
        )


def _check_splits(assigned: Sequence[Assigned], stored: Sequence[Stored], out: Path) -> None:
    """Raises VidarError if the same content is, or would be, in two splits."""
    places = {e.content: (e.split, f"{e.file} in split {e.split!r} of {out}") for e in stored if e.content}
    for one in assigned:
        here = one.split, f"{one.source.recording.file} for split {one.split!r}"
        split, what = places.setdefault(one.source.content, here)
        if split != one.split:
            raise VidarError(
                f"{one.source.recording.video}: has the same content as {what}, but is for split {one.split!r}; a "
                "recording belongs to one split, so leave one of the two out"
            )
