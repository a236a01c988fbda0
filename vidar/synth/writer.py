"""What becomes of jobs: their films, written in a thread of its own, and what the manifest says of each."""

from __future__ import annotations

from collections.abc import Callable

from vidar.synth.encoder import Encoder
from vidar.synth.film import Film
from vidar.synth.jobs import Plan
from vidar.synth.manifest import DONE, FAILED, RUNNING, Manifest
from vidar.synth.segments import Made
from vidar.types import VidarError

Progress = Callable[[str, int, int, int], None]  # id, frames that are written, frames of the video, videos to go


class Writer:
    """left: jobs without an end. Segments of a film are handed over in order."""

    def __init__(self, manifest: Manifest, left: int, progress: Progress, say: Callable[[str], None]) -> None:
        self.manifest, self.left, self.progress, self.say = manifest, left, progress, say
        self.encoder = Encoder[tuple[Film, Made | None]](self._write, room=manifest.header["rows"])

    def film(self, plan: Plan, first: int | None = None) -> Film:
        """Of a job that begins, see `Film`; what is there of it is for the caller to find."""
        return Film(self.manifest.file.parent, plan, self.manifest.header["segment"], first)

    def begin(self, film: Film) -> bool:
        """What is there has been found. Whether segments are still to be made."""
        self.manifest.note(film.plan, RUNNING, film=film)
        if film.counts:
            self.progress(film.plan.job.id, film.frames, film.plan.frames, self.left)
        whole = len(film.counts) == film.total
        if whole:
            self.encoder.put((film, None))
        return not whole

    def put(self, film: Film, made: Made) -> None:
        """The next segment. Waits while many are to be written."""
        self.encoder.put((film, made))

    def fail(self, plan: Plan, error: str) -> None:
        """A job comes to nothing."""
        self.left -= 1
        self.manifest.note(plan, FAILED, error)
        self.say(f"job {plan.job.id!r}: {error}")

    def _write(self, item: tuple[Film, Made | None]) -> None:
        """In the thread of the encoder."""
        film, made = item
        plan = film.plan
        if made is not None:
            film.add(made)
            self.progress(plan.job.id, film.frames, plan.frames, self.left)
        if len(film.counts) < film.total:
            return
        about = {name: value for name, value in self.manifest.header.items() if name not in ("schema", "fps")}
        try:
            film.finish(about)
        except VidarError as error:
            return self.fail(plan, str(error))
        self.left -= 1
        self.manifest.note(plan, DONE, film=film)
        film.clear()
