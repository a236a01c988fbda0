"""Convert a folder of your own recordings to shards. Every file is checked before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from vidar.actions import DEGREES_PER_PIXEL, ActionSpec
from vidar.config import Config, to_dict
from vidar.data.episode import Episode
from vidar.data.index import Index
from vidar.data.names import episode_names, piece_names
from vidar.data.outputs import check_apart
from vidar.data.rates import Stamps, check_rate, kept_frames
from vidar.data.recordings import Recording, find_recordings
from vidar.data.rows import Rows, Units, actions_of_frames, frames_of_rows, slow_turns
from vidar.data.shards import KEY, ShardWriter
from vidar.data.stored import HELD_OUT, Assigned, Source, Stored, assign, read_stored
from vidar.data.tables import read_table
from vidar.data.text import check_regular
from vidar.data.video import read_pieces, video_info
from vidar.types import UsageError, VidarError

PIECE = 2048  # frames of an episode at most; a longer video becomes several episodes
MEMORY = 1 << 30  # bytes of the frames of an episode at most


class Conversion(Config):
    """How recordings become episodes.

    spec: the columns of the tables; without columns, videos have no tables. fps: frames per second of the videos.
    target_fps, every, stamps: which frames are kept (`kept_frames`). rows: where the rows of a table belong
    (`frames_of_rows`). camera_units: of the camera columns in the tables. degrees_per_pixel: of a mouse, if these are
    pixels (None: 0.15, as the player's mouse).
    size: (height, width) of the episodes in pixels (None: unchanged); frames are cropped to this aspect ratio, equally
    on both sides, and resized by averaging.
    """

    spec: ActionSpec = ActionSpec()
    fps: float | None = None
    target_fps: float | None = None
    every: int | None = None
    stamps: Stamps = "check"
    rows: Rows | None = None
    camera_units: Units = "bins"
    degrees_per_pixel: float | None = None
    size: tuple[int, int] | None = None

    def check(self) -> float:
        """The frames per second of the episodes. Raises UsageError for options that do not go together."""
        if self.camera_units != "bins" and not any(action.kind == "camera" for action in self.spec.actions):
            raise UsageError(f"--camera-units {self.camera_units}: the spec has no action of kind camera")
        if self.degrees_per_pixel is not None and self.camera_units != "pixels":
            raise UsageError("--degrees-per-pixel is for --camera-units pixels; give both or none")
        if self.degrees_per_pixel is not None and not 0 < self.degrees_per_pixel < 360:
            raise UsageError(f"--degrees-per-pixel is {self.degrees_per_pixel:g}, but must be above 0 and below 360")
        if self.rows is not None and not self.spec.width:
            raise UsageError(f"--rows {self.rows}: there are no tables without a spec that names their columns")
        return check_rate(self.fps, self.target_fps, self.every, self.stamps)


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    episodes: written now; heldout: how many of them to the split `heldout`. kept: number of recordings that were there
    already. passed_over: names of the files that are no recordings.
    """

    episodes: int
    heldout: int
    kept: int
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class _Checked:
    """A recording that can be written. kept: int64 [N], numbers of its frames; actions: float32 [N, A].

    slow: int64 [2, cameras], see `slow_turns`.
    """

    assigned: Assigned
    kept: np.ndarray
    actions: np.ndarray
    size: tuple[int, int]
    slow: np.ndarray
    name: str = ""

    @property
    def length(self) -> int:
        """Frames of a piece."""
        return max(2, min(PIECE, MEMORY // (3 * self.size[0] * self.size[1])))

    @property
    def pieces(self) -> int:
        """Number of episodes."""
        return -(-len(self.kept) // self.length)


def convert_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    conversion: Conversion,
    split: str = "train",
    *,
    heldout: float = 0.0,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write the recordings of a folder as shards; see `find_recordings` for its files.

    Every file is checked before anything is written, and from the first check on no other process writes these splits.
    Recordings that are there already, from the same files and with the same options, are kept. heldout, resume: see
    `assign`. say receives a line about files that are passed over or
    kept; progress(done, number of recordings) is called after each check and each recording written.
    Raises VidarError naming the file and line, and UsageError for options that do not go together.
    """
    place, fps = Path(out), conversion.check()
    _check_split(split, heldout)
    check_apart(place, folder)
    _check_place(place)
    say = say or (lambda line: None)
    recordings, passed = find_recordings(Path(folder), actions=bool(conversion.spec.width))
    if passed:
        more = f" and {len(passed) - 5} more" if len(passed) > 5 else ""
        say(f"{folder}: passed over, as no recordings: {', '.join(passed[:5])}{more}")
    targets = list(dict.fromkeys((split, HELD_OUT) if heldout else (split,)))
    with _writers(place, targets, conversion.spec) as writers:
        index, stored = read_stored(place)
        _check_rate(index, place, fps)
        sources = [_source(recording, conversion) for recording in recordings]
        assigned = assign(sources, stored, place, split, heldout, resume)
        left = [one for one in assigned if not one.complete]
        if len(left) < len(assigned):
            say(f"{place}: {len(assigned) - len(left)} of {len(assigned)} recordings are there already and are kept")
        steps = iter(range(1, 2 * len(left) + 1))
        step = (lambda: progress(next(steps), 2 * len(left))) if progress is not None else (lambda: None)
        checked: list[_Checked] = []
        for one in left:
            checked.append(_check(one, conversion))
            step()
        _say_slow(checked, conversion, say)
        checked = _named(checked, stored)
        _check_sizes(checked, index, place)
        written: Counter[str] = Counter()
        for target, writer in writers.items():  # the first split is what readers take by default
            for one in checked:
                if one.assigned.split == target:
                    for episode in _episodes(one, conversion, fps):
                        writer.write(episode)
                        written[target] += 1
                    step()
            writer.close()
    return Converted(written.total(), written[HELD_OUT] if heldout else 0, len(assigned) - len(left), tuple(passed))


@contextmanager
def _writers(out: Path, splits: Sequence[str], spec: ActionSpec) -> Generator[Mapping[str, ShardWriter]]:
    """A writer per split, which keeps other processes from writing it. A folder made for nothing is removed again."""
    new = not out.exists()
    try:
        with ExitStack() as stack:
            yield {split: stack.enter_context(ShardWriter(out, split, spec)) for split in splits}
    finally:
        if new:
            with suppress(OSError):  # it is not empty
                out.rmdir()


def _check_split(split: str, heldout: float) -> None:
    if not KEY.fullmatch(split):
        raise UsageError(f"split {split!r} must be letters, digits, - and _")
    if not 0 <= heldout < 1:
        raise UsageError(f"--heldout is {heldout:g}, but must be a share of at least 0 and below 1")
    if heldout and split == HELD_OUT:
        raise UsageError(f"--heldout writes the split {HELD_OUT!r} itself; give another --split for the rest")


def _check_place(out: Path) -> None:
    """Raises VidarError if no folder can be made or written there."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise VidarError(f"{there}: is a file, but convert writes a folder of shards; give another --out")
    if not os.access(there, os.W_OK):
        raise VidarError(f"{there}: no permission to write there; give another --out")


def _source(recording: Recording, conversion: Conversion) -> Source:
    """The hashes that say whether a stored recording is this one; the spec is compared by itself."""
    options = {name: value for name, value in to_dict(conversion).items() if name not in ("type", "spec")}
    made = [_hash(recording.table) if recording.table else "", recording.caption, options, PIECE, MEMORY]
    return Source(recording, _hash(recording.video), hashlib.sha256(json.dumps(made).encode()).hexdigest())


def _hash(file: Path) -> str:
    check_regular(file)
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise VidarError(f"{file}: cannot be read: {error.strerror}") from None


def _check(assigned: Assigned, conversion: Conversion) -> _Checked:
    """Decode the video, read the table, and find the kept frames and their actions."""
    recording, options = assigned.source.recording, conversion
    name = str(recording.video)
    info = video_info(name, name)
    if info.frames < 2:
        raise VidarError(f"{name}: has {info.frames} frame; at least 2 are needed for one action")
    kept = kept_frames(info.times, options.fps, options.target_fps, options.every, options.stamps, name)
    if len(kept) < 2:
        raise VidarError(f"{name}: {len(kept)} of {info.frames} frames is kept; at least 2 are needed for one action")
    actions, slow = np.zeros((len(kept), 0), np.float32), np.zeros((2, 0), np.int64)
    if recording.table is not None:
        table = read_table(recording.table, options.spec.names)
        frames = frames_of_rows(table, info.times, options.rows)
        degrees = options.degrees_per_pixel or DEGREES_PER_PIXEL
        how = (table, options.spec, frames, kept, options.camera_units, degrees)
        actions, slow = actions_of_frames(*how), slow_turns(*how)
    checked = _Checked(assigned, kept, actions, options.size or (info.height, info.width), slow)
    if len(kept) % checked.length == 1:  # a last piece of one frame would contain no action
        checked = replace(checked, kept=kept[:-1], actions=actions[:-1])
    return checked


def _say_slow(checked: Sequence[_Checked], conversion: Conversion, say: Callable[[str], None]) -> None:
    """Say which camera columns lose more than a tenth of their turns to the bin of rest."""
    cameras = [action for action in conversion.spec.actions if action.kind == "camera"]
    for number, action in enumerate(cameras if checked else ()):
        turned, slow = np.sum([one.slow[:, number] for one in checked], 0)
        if slow > turned / 10:
            more = " or a larger --degrees-per-pixel" if conversion.camera_units == "pixels" else ""
            say(
                f"{action.name!r}: {slow} of {turned} moves are too slow for {action.size} bins and become rest; a "
                f"larger size in the spec{more} keeps them"
            )


def _named(checked: Sequence[_Checked], stored: Sequence[Stored]) -> list[_Checked]:
    """The recordings with their names; stored ones keep theirs."""
    known = [next((episode.name for episode in one.assigned.stored.values()), "") for one in checked]
    new = [one for one, name in zip(checked, known) if not name]
    taken = [episode.key for episode in stored]
    taken += [key for one, name in zip(checked, known) if name for key in piece_names(name, one.pieces)]
    stems = [one.assigned.source.recording.stem for one in new]
    names = iter(episode_names(stems, [one.pieces for one in new], taken))
    return [replace(one, name=name or next(names)) for one, name in zip(checked, known)]


def _check_rate(index: Index | None, out: Path, fps: float) -> None:
    """Raises VidarError if the data folder holds episodes at another rate."""
    if index is not None and index.fps != fps:
        raise VidarError(
            f"{out}: holds data at {index.fps:g} fps, these recordings give {fps:g}; write to another folder"
        )


def _check_sizes(checked: Sequence[_Checked], index: Index | None, out: Path) -> None:
    """Raises VidarError if the episodes would not all have one size, that of the data folder."""
    known = None if index is None else ((index.height, index.width), str(out))
    for one in checked:
        video = one.assigned.source.recording.video
        (height, width), where = known = known or (one.size, str(video))
        if one.size != (height, width):
            raise VidarError(
                f"{video}: is {one.size[0]} x {one.size[1]} pixels, {where} is {height} x {width}; give --height and "
                "--width, the size of all"
            )


def _episodes(one: _Checked, conversion: Conversion, fps: float) -> Iterator[Episode]:
    """The pieces of a recording that are not stored yet."""
    source = one.assigned.source
    recording = source.recording
    keys = piece_names(one.name, one.pieces)
    for piece, frames in enumerate(read_pieces(recording.video, one.length, conversion.size, one.kept)):
        if piece in one.assigned.stored:
            continue
        start = piece * one.length
        made = Stored("", "", recording.file, one.name, piece, one.pieces, source.content, source.options)
        converted = {name: value for name, value in asdict(made).items() if name not in ("split", "key")}
        yield Episode(
            frames,
            one.actions[start : start + len(frames)],
            fps,
            conversion.spec,
            keys[piece],
            f"file:{recording.stem}",
            caption=recording.caption,
            meta={"start_frame": start, "file": recording.file, "converted": converted},
        )
