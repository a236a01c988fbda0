"""The writer: writes the segments of all videos in a thread of its own, and keeps manifest and page up to date."""

from __future__ import annotations

from collections.abc import Callable

from vidar.synth.encoder import Encoder
from vidar.synth.jobs import ResolvedJob
from vidar.synth.manifest import DONE, FAILED, RUNNING, Manifest
from vidar.synth.page import Page
from vidar.synth.segments import SegmentResult
from vidar.synth.video_output import VideoOutput
from vidar.types import VidarError

Progress = Callable[[str, int, int, int], None]  # id, written frames, frames of the video, unfinished videos


class Writer:
    """Takes the segments of every video in order. left: number of unfinished jobs. say: prints a line."""

    def __init__(
        self, manifest: Manifest, page: Page, left: int, progress: Progress, say: Callable[[str], None]
    ) -> None:
        self.manifest, self.page, self.left, self.progress, self.say = manifest, page, left, progress, say
        self.encoder = Encoder[tuple[VideoOutput, SegmentResult | None]](self._write, room=manifest.header["rows"])

    def output(self, plan: ResolvedJob, first: int | None = None) -> VideoOutput:
        """The files of a job that begins. The caller looks for segments of an earlier run. first: see `VideoOutput`."""
        return VideoOutput(self.manifest.file.parent, plan, self.manifest.header["segment"], first)

    def begin(self, output: VideoOutput) -> bool:
        """Note that a job runs, after its earlier segments were found. Returns whether segments are missing."""
        self.manifest.note(output.plan, RUNNING, output=output)
        if output.counts:
            self.progress(output.plan.job.id, output.frames, output.plan.frames, self.left)
        whole = len(output.counts) == output.total
        if whole:
            self.encoder.put((output, None))
        return not whole

    def put(self, output: VideoOutput, made: SegmentResult) -> None:
        """Take the next segment of a video. Waits while too many segments are waiting to be written."""
        self.encoder.put((output, made))

    def fail(self, plan: ResolvedJob, error: str) -> None:
        """Note that a job has failed."""
        self.left -= 1
        self.manifest.note(plan, FAILED, error)
        self.say(f"job {plan.job.id!r}: {error}")

    def _write(self, item: tuple[VideoOutput, SegmentResult | None]) -> None:
        """Write a segment, None if all are there, and finish a video that is complete. Runs in the encoder's thread."""
        output, made = item
        plan = output.plan
        if made is not None:
            output.add(made)
            self.progress(plan.job.id, output.frames, plan.frames, self.left)
            self.page.grow(plan.job.id, output.frames)
        if len(output.counts) < output.total:
            return
        about = {name: value for name, value in self.manifest.header.items() if name not in ("schema", "fps")}
        try:
            output.finish(about)
        except VidarError as error:
            return self.fail(plan, str(error))
        self.left -= 1
        self.manifest.note(plan, DONE, output=output)
        output.clear()
