"""What becomes of jobs: their videos, written in a thread of its own, and what the manifest says of each."""

from __future__ import annotations

from collections.abc import Callable

from vidar.synth.encoder import Encoder
from vidar.synth.jobs import ResolvedJob
from vidar.synth.manifest import DONE, FAILED, RUNNING, Manifest
from vidar.synth.segments import SegmentResult
from vidar.synth.video_output import VideoOutput
from vidar.types import VidarError

Progress = Callable[[str, int, int, int], None]  # id, frames that are written, frames of the video, videos to go


class Writer:
    """left: jobs without an end. Segments of a video are handed over in order."""

    def __init__(self, manifest: Manifest, left: int, progress: Progress, say: Callable[[str], None]) -> None:
        self.manifest, self.left, self.progress, self.say = manifest, left, progress, say
        self.encoder = Encoder[tuple[VideoOutput, SegmentResult | None]](self._write, room=manifest.header["rows"])

    def output(self, plan: ResolvedJob, first: int | None = None) -> VideoOutput:
        """Of a job that begins, see `VideoOutput`; what is there of it is for the caller to find."""
        return VideoOutput(self.manifest.file.parent, plan, self.manifest.header["segment"], first)

    def begin(self, output: VideoOutput) -> bool:
        """What is there has been found. Whether segments are still to be made."""
        self.manifest.note(output.plan, RUNNING, output=output)
        if output.counts:
            self.progress(output.plan.job.id, output.frames, output.plan.frames, self.left)
        whole = len(output.counts) == output.total
        if whole:
            self.encoder.put((output, None))
        return not whole

    def put(self, output: VideoOutput, made: SegmentResult) -> None:
        """The next segment. Waits while many are to be written."""
        self.encoder.put((output, made))

    def fail(self, plan: ResolvedJob, error: str) -> None:
        """A job comes to nothing."""
        self.left -= 1
        self.manifest.note(plan, FAILED, error)
        self.say(f"job {plan.job.id!r}: {error}")

    def _write(self, item: tuple[VideoOutput, SegmentResult | None]) -> None:
        """In the thread of the encoder."""
        output, made = item
        plan = output.plan
        if made is not None:
            output.add(made)
            self.progress(plan.job.id, output.frames, plan.frames, self.left)
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
