"""Check every sample of a data set: present, as declared, undamaged, in step. Never raises for the content of files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vidar.actions import ActionSpec
from vidar.data.atomic import TEMPORARY
from vidar.data.index import INDEX, Index, Shard, load_index, name_of, shard_name
from vidar.data.reader import (
    Sample,
    misfit,
    read_actions,
    read_extra,
    read_side,
    read_spec,
    read_video_bytes,
    scan_shard,
    sides_digest,
)
from vidar.data.shards import checked_actions
from vidar.data.video import video_info
from vidar.types import VidarError


@dataclass
class Report:
    """shards, samples, frames: how much was checked (frames that were decoded).

    problems: lines `shard:key: problem`.
    """

    shards: int = 0
    samples: int = 0
    frames: int = 0
    problems: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report as text lines."""
        counted = f"{self.samples} samples, {self.frames} frames in {self.shards} shards: "
        return [*self.problems, counted + ("ok" if self.ok else f"{len(self.problems)} problem(s)")]


def validate(path: str | os.PathLike[str], progress: Callable[[str], None] | None = None) -> Report:
    """Check everything in a data folder. `progress` receives the name of each sample before it is read.

    Raises VidarError only if `path` is not a folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise VidarError(f"{folder}: no such data folder")
    report = Report()
    index: Index | None = None
    try:
        index = load_index(folder)
    except VidarError as error:
        report.problems.append(str(error))
    listed = {shard.name: shard for shard in index.shards} if index else {}
    there = {file.name: file for file in sorted(folder.iterdir())}
    for name in there:
        if TEMPORARY in name:
            report.problems.append(f"{name}: left over from a writer that was killed; remove it")
        elif name.endswith(".tar") and index and name not in listed:
            report.problems.append(_unlisted(name, folder, index))
    for name in sorted(listed.keys() | {n for n in there if n.endswith(".tar")}):
        if name in there:
            _check_shard(there[name], listed.get(name), index, report, progress)
        else:
            report.problems.append(f"{name}: is listed in {INDEX} but missing")
    for split in index.splits() if index else ():
        if not any(shard.samples for shard in listed.values() if shard.split == split):
            report.problems.append(f"{INDEX}: split {split!r} holds no episode; record it, or remove its entries")
    return report


def _unlisted(name: str, folder: Path, index: Index) -> str:
    """The problem of a shard that the index does not list: a killed writer leaves the next one of a split only."""
    new = re.fullmatch(rf"{re.escape(name_of(folder))}-([A-Za-z0-9_-]+)-\d+\.tar", name)
    splits = {*index.splits(), *(new.groups() if new else ())}
    left = {shard_name(folder, split, [s.name for s in index.shards if s.split == split]) for split in splits}
    remedy = "its writer was killed, the next one replaces it" if name in left else "nothing reads it; move it away"
    return f"{name}: is not listed in {INDEX}; {remedy}"


def _check_shard(
    file: Path, entry: Shard | None, index: Index | None, report: Report, progress: Callable[[str], None] | None
) -> None:
    report.shards += 1
    scan = scan_shard(file)
    if scan.problem:
        report.problems.append(scan.problem)
    before = report.frames
    for sample in scan.samples.values():
        if progress:
            progress(sample.name)
        report.samples += 1
        report.problems.extend(f"{sample.name}: {problem}" for problem in _check_sample(sample, index, report))
    if entry is None or scan.problem:
        return
    if len(scan.samples) != entry.samples or report.frames - before != entry.frames:
        found = f"{len(scan.samples)} samples and {report.frames - before} frames"
        report.problems.append(f"{file.name}: {found}, {INDEX} says {entry.samples} and {entry.frames}")
    if file.stat().st_size != entry.bytes:
        report.problems.append(f"{file.name}: has {file.stat().st_size} bytes, {INDEX} says {entry.bytes}")
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != entry.sha256:
            report.problems.append(f"{file.name}: does not match its sha256 in {INDEX}")
    with suppress(VidarError):  # a missing .json is reported as a problem of its sample
        if entry.sides and sides_digest(scan) != entry.sides:
            report.problems.append(f"{file.name}: its .json members do not match their sha256 in {INDEX}")


def _check_sample(sample: Sample, index: Index | None, report: Report) -> Iterator[str]:
    """The problems of one sample; each check runs even if another one failed."""
    try:
        side = read_side(sample)
        spec = read_spec(sample, side)
    except VidarError as error:
        yield _brief(error, sample)
        return
    if index and (problem := misfit(sample, side, index)):
        yield problem
    checks: list[Callable[[], str]] = [
        partial(_check_video, sample, side, report),
        partial(_check_actions, sample, side, spec),
        *(partial(_check_extra, sample, side, extra) for extra in side["sha256_extras"]),
    ]
    for check in checks:
        try:
            problem = check()
        except VidarError as error:
            problem = _brief(error, sample)
        if problem:
            yield problem
    allowed = {"mp4", "json", "actions.npy", "txt"}
    allowed |= {f"{extra}.{suffix}" for extra in side["sha256_extras"] for suffix in ("npy", "npz")}
    for extension in sorted(sample.members.keys() - allowed):
        yield f"unknown member .{extension} (never opened)"


def _check_video(sample: Sample, side: dict[str, Any], report: Report) -> str:
    timing = video_info(read_video_bytes(sample, side), sample.name)
    report.frames += timing.frames
    if timing.frames != side["n_frames"]:
        return f"{timing.frames} frames decode, .json says {side['n_frames']}"
    if not (0 <= timing.height - side["height"] <= 1 and 0 <= timing.width - side["width"] <= 1):
        return f"video is {timing.height} x {timing.width}, .json says {side['height']} x {side['width']}"
    if not timing.regular:
        return "time stamps of the video do not increase by a constant step"
    if abs(timing.fps - side["fps"]) > 1e-3 * side["fps"]:
        return f"video runs at {timing.fps:g} fps, .json says {side['fps']:g}"
    return ""


def _check_actions(sample: Sample, side: dict[str, Any], spec: ActionSpec) -> str:
    actions = read_actions(sample, side, spec.width)
    if actions[0].any():
        return "action row 0 is not zeros"
    checked_actions(spec, actions, sample.name)
    return ""


def _check_extra(sample: Sample, side: dict[str, Any], extra: str) -> str:
    read_extra(sample, side, extra)
    return ""


def _brief(error: VidarError, sample: Sample) -> str:
    return str(error).removeprefix(f"{sample.name}: ")
