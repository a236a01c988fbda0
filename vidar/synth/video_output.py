"""The files of one video: a folder of parts while it grows, then the mp4 and the files beside it.

ID.parts holds for every finished segment n the fragment n.ts and the record n.json, which is written last and marks the
segment as finished; the boundary of the next segment, or the plans of the coming ones; pictures for the strip; and
index.m3u8, which plays the finished segments.
The hash of a segment is the SHA-256 of its frames, uint8 [t, H, W, 3] in the world's size, before they are encoded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vidar.config import to_dict
from vidar.data.atomic import TEMPORARY, make_folder, replacing
from vidar.model.files import lanczos_resized, read_picture
from vidar.synth.fragments import fragment_name, join_fragments, write_fragment, write_playlist
from vidar.synth.frame_stats import UNITS, frame_stats, strip_frames, write_drift, write_strip
from vidar.synth.jobs import ResolvedJob
from vidar.synth.segments import ContinuationState, SegmentResult, read_boundary, save_boundary
from vidar.types import VidarError

PLAYLIST = "index.m3u8"


class VideoOutput:
    """The files of one job. segment: frames of a segment but the last; first: of the first one, None: the same."""

    def __init__(self, out: Path, plan: ResolvedJob, segment: int, first: int | None = None) -> None:
        self.out, self.plan, self.segment = out, plan, segment
        self.first = segment if first is None else first
        self.folder = out / f"{plan.job.id}.parts"
        self.rate = Fraction(plan.config.fps).limit_denominator(1001)
        self.total = 1 + max(0, -(-(plan.frames - self.first) // segment))
        self.counts: list[int] = []  # frames of each finished segment
        self.hashes: list[str] = []
        self._strip = strip_frames(plan.frames)

    @property
    def frames(self) -> int:
        """Number of frames in the finished segments."""
        return sum(self.counts)

    def length(self, number: int) -> int:
        """Number of frames of a segment."""
        if number == 0:
            return min(self.first, self.plan.frames)
        return min(self.segment, self.plan.frames - self.first - (number - 1) * self.segment)

    def recover(self) -> ContinuationState | None:
        """Find the finished segments. Returns the boundary of the next one, None for the first one or if all are there.

        If the boundary is missing, the video starts over.
        """
        self.find()
        if not self.counts or len(self.counts) == self.total:
            return None
        try:
            return read_boundary(self._boundary(len(self.counts)))
        except VidarError:
            self.restart()
            return None

    def restart(self) -> None:
        """Start the video over."""
        self.counts, self.hashes = [], []

    def find(self) -> None:
        """Find the finished segments of an earlier run."""
        make_folder(self.folder)
        for left in self.folder.glob(f"*{TEMPORARY}*"):  # left by a killed process
            left.unlink(missing_ok=True)
        for number in range(self.total):
            record = self._record(number)
            if record is None:
                break
            self.counts.append(record["frames"])
            self.hashes.append(record["sha256"])

    def add(self, made: SegmentResult) -> None:
        """Write the next segment. Raises VidarError; earlier segments stay intact."""
        number, frames = len(self.counts), made.frames
        if made.number != number or len(frames) != self.length(number):
            raise ValueError(
                f"{self.folder}: segment {made.number} of {len(frames)} frames is not the next one, {number}"
            )
        write_fragment(self.folder / fragment_name(number), self._sized(frames), self.rate, self.frames)
        for place in self._strip:
            if 0 <= place - self.frames < len(frames):
                with replacing(self.folder / f"{place:09d}.png") as temporary:
                    Image.fromarray(frames[place - self.frames]).save(temporary, format="png")
        if number + 1 < self.total and made.after is not None:
            save_boundary(made.after, self._boundary(number + 1))
        digest = hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()
        record = {"frames": len(frames), "sha256": digest, "looks": frame_stats(frames)}
        with replacing(self._file(number)) as temporary:
            temporary.write_text(json.dumps(record) + "\n")
        self._boundary(number).unlink(missing_ok=True)
        self.anchors(number - 1).unlink(missing_ok=True)
        self.counts.append(len(frames))
        self.hashes.append(digest)
        ended = len(self.counts) == self.total
        write_playlist(self.folder / PLAYLIST, self.counts, self.rate, max(self.first, self.segment), ended)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write mp4, strip and drift plot after the last segment, then the side file, which includes `about`.

        Raises VidarError if the parts do not add up to the length of the video.
        """
        job, config = self.plan.job, self.plan.config
        video = self.out / f"{job.id}.mp4"
        found = join_fragments([self.folder / fragment_name(n) for n in range(self.total)], video, self.rate)
        if found != self.plan.frames:
            video.unlink()
            raise VidarError(f"{self.folder}: holds {found} frames of {self.plan.frames}; remove it and run again")
        records = [self._record(number) or {} for number in range(self.total)]
        curves = {name: [value for record in records for value in record["looks"][name]] for name in UNITS}
        write_strip(self.out / f"{job.id}.png", [read_picture(self.folder / f"{n:09d}.png") for n in self._strip])
        write_drift(self.out / f"{job.id}.drift.png", curves, float(self.rate), job.id)
        side = {
            "video": str(video),
            "arguments": to_dict(job),
            "seed": self.plan.seed,
            "frames": self.plan.frames,
            "fps": config.fps,
            "context": self.plan.start,
            "actions": job.actions or "walk",
            "segments": self.hashes,
            **about,
            "world": to_dict(config),
        }
        with replacing(self.out / f"{job.id}.json") as temporary:
            temporary.write_text(json.dumps(side, indent=2) + "\n")

    def clear(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    def anchors(self, number: int) -> Path:
        """The file of the plan of a segment."""
        return self.folder / f"{number:06d}.plan.safetensors"

    def _boundary(self, number: int) -> Path:
        return self.folder / f"{number:06d}.boundary.safetensors"

    def _record(self, number: int) -> dict[str, Any] | None:
        """The record of a finished segment; None if the segment is not complete."""
        try:
            record = json.loads(self._file(number).read_text())
            good = record["frames"] == self.length(number) and {*UNITS} == {*record["looks"]} and record["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return record if good and (self.folder / fragment_name(number)).is_file() else None

    def _sized(self, frames: np.ndarray) -> np.ndarray:
        size = self.plan.job.size
        return frames if size is None else np.stack([lanczos_resized(frame, size) for frame in frames])
