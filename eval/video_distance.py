"""How far two sets of videos are apart in the features of an extractor (`vidar eval videos`, `vidar eval features`)."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidar.data.outputs import check_apart
from vidar.eval.clip_features import FOLDER, PROTOCOLS, Clip, Sampling, choose, features, read
from vidar.eval.extractors import Extractor, Pixels, RandomNet, check_clip
from vidar.eval.frechet import Moments, Owners, frechet, frechet_distance
from vidar.eval.frozen_encoder import FrozenEncoder
from vidar.eval.i3d import I3D
from vidar.eval.kernel_distance import jedi, kid
from vidar.eval.output import MARK, begin, folder, write
from vidar.eval.provenance import hardware, shown, versions
from vidar.eval.transformer_features import VideoMAE, VJepa
from vidar.eval.video_report import videos_page
from vidar.eval.video_set import Size, VideoSet, find_videos, same_rate, without_short
from vidar.types import UsageError, VidarError

SCHEMA = 1  # of report.json
SIDES = ("real", "generated")
SHEETS = 6  # clips of each side on the page
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]  # (what) -> tick(done, all)
FROM_FILE: Mapping[str, Callable[[str, str], Extractor]] = {"i3d": I3D, "videomae": VideoMAE, "vjepa": VJepa}
BUILT_IN: Mapping[str, Callable[[], Extractor]] = {"frozen": FrozenEncoder, "pixels": Pixels, "random3d": RandomNet}


def extractor(text: str, device: str = "cpu") -> Extractor:
    """The extractor that a command line names: frozen, frozen=MODEL, pixels, random3d, i3d=FILE, videomae=FILE, ...

    Raises UsageError for another name, VidarError for a file that does not hold the right weights.
    """
    name, equals, value = text.partition("=")
    if name in FROM_FILE:
        if not value:
            raise UsageError(f"--features {name} needs a file of weights: {name}=FILE; vidar ships none")
        return FROM_FILE[name](value, device)
    if name == "frozen" and value:
        return FrozenEncoder(value)
    if name in BUILT_IN and not equals:
        return BUILT_IN[name]()
    known = ", ".join([*BUILT_IN, "frozen=MODEL", *(f"{known}=FILE" for known in FROM_FILE)])
    raise UsageError(f"--features {text!r} is none of {known}")


def distances(
    real: np.ndarray,
    generated: np.ndarray,
    with_jedi: bool = True,
    owners: Owners | None = None,
    paired: bool = False,
) -> dict[str, Any]:
    """All distances of features [N, d] and [M, d]; a Frechet distance that means nothing is {"refused": reason}.

    owners: the video of each clip, so that the errors are those of other videos (None: every clip is its own). paired:
    row n of both is made from the same clip.
    Raises UsageError for other shapes, or for values that are not finite.
    """
    value, error = kid(real, generated, owners, paired)
    resamples = 200 if real.shape[1] <= 512 else 50
    try:
        found = asdict(frechet_distance(real, generated, resamples, owners=owners, paired=paired))
    except UsageError as refusal:
        found = {"refused": str(refusal), "real": len(real), "fake": len(generated), "columns": real.shape[1]}
    made = {"frechet": found, "kid": {"value": value, "standard_error": error}}
    return {**made, "jedi": jedi(real, generated)} if with_jedi else made


def halves(features: np.ndarray, owner: np.ndarray) -> dict[str, Any] | None:
    """For scale: every second video against the others. frechet: None for too few clips. None: too few videos."""
    second = np.searchsorted(np.unique(owner), owner) % 2 == 1
    sides = (features[~second], features[second])
    if len(np.unique(owner)) < 4 or min(map(len, sides)) < 3:
        return None
    value, error = kid(*sides, (owner[~second], owner[second]))
    enough = min(map(len, sides)) > features.shape[1]
    far = frechet(Moments.of(sides[0]), Moments.of(sides[1])) if enough else None
    clips = [len(side) for side in sides]
    return {"frechet": far, "kid": {"value": value, "standard_error": error}, "clips": clips}


def distances_of_files(real: str | os.PathLike[str], generated: str | os.PathLike[str]) -> dict[str, Any]:
    """`distances` of two .npy files of features. Raises VidarError naming a file that cannot be read."""
    both: list[np.ndarray] = []
    for file in (real, generated):
        try:
            both.append(np.load(file, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            problem = f"{file}: cannot be read as an array of numbers ({error}); save it with numpy.save"
            raise VidarError(problem) from None
    return distances(both[0], both[1])


@dataclass(frozen=True)
class Comparison:
    """What is compared and how.

    real, generated: folders of videos or of shards. out: folder of the report. features: names for `extractor`.
    protocol: a name of PROTOCOLS, whose sampling replaces `sampling`. size: (height, width) that both sides are made;
    None: they must have one size. splits: of shards, None: see `find_videos`. seed: of the choice of clips.
    """

    real: str
    generated: str
    out: str
    features: tuple[str, ...] = ("frozen",)
    sampling: Sampling = Sampling()
    protocol: str | None = None
    size: Size | None = None
    splits: tuple[str | None, str | None] = (None, None)
    seed: int = 0
    device: str = "cpu"

    @property
    def command(self) -> str:
        """The command line that repeats it."""
        usual, options = Sampling(), list[tuple[str, Any]]()
        options += [("features", name) for name in self.features]
        if self.protocol is None:
            taken = [(name, getattr(self.sampling, name)) for name in ("frames", "stride", "clips")]
            options += [(name, value) for name, value in taken if value != getattr(usual, name)]
        options += [("protocol", self.protocol), ("size", None if self.size is None else _shown(self.size))]
        options += [("real-split", self.splits[0]), ("generated-split", self.splits[1]), ("seed", self.seed or None)]
        options += [("device", None if self.device == "cpu" else self.device), ("out", shown(self.out))]
        words = [word for name, value in options if value is not None for word in (f"--{name}", str(value))]
        return shlex.join(["vidar", "eval", "videos", shown(self.real), shown(self.generated), *words])


def compare(asked: Comparison, bar: Bar, say: Callable[[str], None]) -> dict[str, Any]:
    """Write report.html and report.json; returns the content of the latter.

    Features stay in the folder, so that an interrupted run goes on. `say` receives every warning as one line. Raises
    UsageError or VidarError in one line.
    """
    began, place, size = time.perf_counter(), folder(asked.out), asked.size
    for path in (asked.real, asked.generated):
        check_apart(asked.out, path)
    sampling = asked.sampling if asked.protocol is None else _protocol(asked.protocol)
    extractors = [extractor(name, asked.device) for name in asked.features]
    sides = list[VideoSet]()
    for what, path, split in zip(SIDES, (asked.real, asked.generated), asked.splits, strict=True):
        with bar(f"counting {what} videos") as tick:
            sides.append(without_short(find_videos(path, split, tick), sampling.span))
    warnings = _checked(sides[0], sides[1], size)
    for one in extractors:
        check_clip(one, sampling.frames, size or sides[0].size)
    chosen = [choose(one, sampling, asked.seed + k, sampling.from_start and k == 1) for k, one in enumerate(sides)]
    _check_enough(sides, chosen)
    for line in (*warnings, *_counted(sides)):
        say(line)
    rows: list[dict[str, Any]] = []
    for one in extractors:
        both: list[np.ndarray] = []
        for what, videos, clips in zip(SIDES, sides, chosen, strict=True):
            with bar(f"{one.name}, {what}") as tick:
                both.append(features(videos, clips, sampling, size, one, place / FOLDER, tick))
        counts = (len(both[0]), len(both[1]))
        label = label_of(one.name, counts, sampling, size or sides[0].size, asked.protocol)
        owners = (np.array([clip.video for clip in chosen[0]]), np.array([clip.video for clip in chosen[1]]))
        made = distances(both[0], both[1], isinstance(one, VJepa), owners)
        scale = halves(both[0], owners[0])
        rows.append({"label": label, "extractor": one.name, "dim": one.dim, **made, "real_halves": scale})
    report = {
        "schema": SCHEMA,
        "real": {**sides[0].facts(), "path": shown(asked.real), "clips": len(chosen[0])},
        "generated": {**sides[1].facts(), "path": shown(asked.generated), "clips": len(chosen[1])},
        "protocol": asked.protocol,
        "sampling": asdict(sampling),
        "size": None if size is None else _shown(size),
        "seed": asked.seed,
        "distances": rows,
        "warnings": warnings,
        "command": asked.command,
        "versions": versions(),
        "hardware": hardware(asked.device),
        "seconds": round(time.perf_counter() - began, 1),
    }
    sheets = [_sheet(videos, clips, sampling, size) for videos, clips in zip(sides, chosen, strict=True)]
    begin(place)
    write(place / "report.html", videos_page(report, sheets[0], sheets[1]))
    write(place / MARK, report)
    return report


def _protocol(name: str) -> Sampling:
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name!r} is none of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _checked(real: VideoSet, generated: VideoSet, size: Size | None) -> list[str]:
    """Warnings. Raises UsageError if the sides differ in size (and `size` does not make them equal) or frame rate."""
    told = [f"{one.path} has {_shown(one.size)}" for one in (real, generated)]
    if size is None and real.size != generated.size:
        height, width = min(real.size, generated.size)
        raise UsageError(f"{told[0]}, {told[1]}; to make both sides one size: --size {width}x{height}")
    if not same_rate(real.fps, generated.fps):
        raise UsageError(
            f"{real.path} has {real.fps:.4g} frames/s, {generated.path} {generated.fps:.4g}; their motion cannot be "
            "compared: convert one with `vidar data convert --target-fps`"
        )
    warnings: list[str] = []
    common = {video.content for video in real.videos} & {video.content for video in generated.videos}
    if Path(real.path).resolve() == Path(generated.path).resolve() and real.split == generated.split:
        warnings.append(f"{real.path}: is given on both sides, so the distances are those of one set to itself")
    elif common:
        warnings.append(f"{len(common)} videos are on both sides with the same content")
    if real.split == "train":
        warnings.append(f"{real.path}: split 'train' may be what the model learned; compare with held-out videos")
    full = [sum(video.full_range for video in one.videos) for one in (real, generated)]
    if any(full) and full != [len(real.videos), len(generated.videos)]:
        warnings.append(f"{full[0]} real and {full[1]} generated videos are stored with full range, the others limited")
    return warnings


def _check_enough(sides: Sequence[VideoSet], chosen: Sequence[Sequence[Clip]]) -> None:
    """Raises UsageError, with what was left out, for a side of fewer than 3 clips or 2 videos."""
    for videos, clips in zip(sides, chosen, strict=True):
        owners = len({clip.video for clip in clips})
        if len(clips) < 3 or owners < 2:
            there = f"{len(clips)} clips of {owners} video{'s' * (owners != 1)} are too few"
            lost = "".join(f"; left out {name} ({reason})" for name, reason in videos.left_out[:1])
            raise UsageError(f"{videos.path}: {there}; a distance needs 3 clips of 2 videos{lost}")


def _counted(sides: Sequence[VideoSet]) -> list[str]:
    lines: list[str] = []
    for videos in sides:
        if videos.left_out:
            name, reason = videos.left_out[0]
            more = f" and {len(videos.left_out) - 1} more, see report.json" if len(videos.left_out) > 1 else ""
            lines.append(f"{videos.path}: left out {name} ({reason}){more}")
    return lines


def label_of(
    extractor: str, counts: tuple[int, int], sampling: Sampling, size: Size, protocol: str | None = None
) -> str:
    """What figures of other runs must share to be comparable. counts: clips of both sides; size: that was looked at."""
    real, generated = counts
    count = f"N {real:,}" if real == generated else f"N {real:,} and {generated:,}"
    parts = [extractor, count, f"{sampling.frames} frames", f"stride {sampling.stride}", _shown(size)]
    return ", ".join([*parts, *([protocol] if protocol else [])])


def _sheet(videos: VideoSet, clips: Sequence[Clip], sampling: Sampling, size: Size | None) -> list[np.ndarray]:
    """Clips spread over the videos, each uint8 [F, H, W, 3]."""
    places = np.unique(np.linspace(0, len(clips) - 1, min(SHEETS, len(clips))).round().astype(int))
    return list(read(videos, [clips[place] for place in places], sampling, size))


def _shown(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
