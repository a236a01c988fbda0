"""The start clips of a model, where the videos of jobs without a context begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidar.model.load import read_index
from vidar.model.start_hashes import START, STARTS, check_starts


@dataclass(frozen=True)
class Starts:
    """Clips, and which of them a video begins with.

    A job that names no seed begins with one of them that follows from its derived seed. A job that names its seed
    begins with the first one, or also with one that follows from the seed if `spread` is set.
    """

    clips: Sequence[Path]
    spread: bool = False

    def clip(self, seed: int, named: bool) -> Path | None:
        """The clip for a seed, None if the model has none. named: whether the job itself names the seed."""
        if not self.clips:
            return None
        return self.clips[0 if named and not self.spread else seed % len(self.clips)]


def starts_of(folder: Path, spread: bool) -> Starts:
    """The clips in a model's folder: start.mp4, then starts/*.mp4 by name; none without the first.

    Choice: if only the first is missing, the folder was copied in part, and no other clip takes its place unnoticed.
    Raises VidarError for a clip that the model was not saved with.
    """
    check_starts(folder, read_index(folder))
    first = folder / START
    return Starts([first, *sorted((folder / STARTS).glob("*.mp4"))] if first.is_file() else [], spread)
