"""The driver of a batch: checks the jobs, hands their segments to workers, and has the results written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from vidar.config import Config
from vidar.model.files import LONGEST, versions
from vidar.model.load import load_world_config, locate
from vidar.model.model import VideoModelConfig
from vidar.orders.plan import chain_of
from vidar.synth.executor import Executor, TaskQueue
from vidar.synth.jobs import Refused, ResolvedJob, read_jobs
from vidar.synth.manifest import DONE, Manifest, check_videos, lock_videos
from vidar.synth.page import Page
from vidar.synth.placement import Placement
from vidar.synth.planned import PlannedQueue
from vidar.synth.schedule import flight_for
from vidar.synth.segments import boundary_frames
from vidar.synth.sequential import SequentialQueue
from vidar.synth.simulate import Span
from vidar.synth.starts import starts_of
from vidar.synth.watchdog import Watchdog
from vidar.synth.workers import LocalWorkers
from vidar.synth.writer import Progress, Writer
from vidar.types import UsageError, VidarError

ROWS, SEGMENT = 4, 64


class SynthRequest(Config):
    """A batch of videos. jobs: a job file (vidar.synth.jobs). out: folder of the videos; finished ones are kept.

    rows: segments in one batched forward pass; segment: frames of a segment. Both change the frames by rounding, so
    None means: as the videos in `out` were made, or 4 and 64 (more if the world looks further back). A world that plans
    has its own segments, which are computed one by one.
    in_flight: for a world that plans, the most segments that are planned and not yet written; None: enough to keep all
    workers busy.
    limit: seconds of the longest video that is allowed. spread_starts: see `vidar.synth.starts`; no_memory: whether to
    run a world without its memory; None: as the videos in `out` were made, or no.
    """

    model: str
    jobs: str
    out: str
    workers: int = Field(default=1, ge=1)
    rows: int | None = Field(default=None, ge=1)
    segment: int | None = Field(default=None, ge=1)
    in_flight: int | None = Field(default=None, ge=1)
    limit: float = Field(default=LONGEST, gt=0)
    spread_starts: bool | None = None
    no_memory: bool | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Batch:
    """A checked request. todo: the jobs that are not finished; plans: these and the finished ones.

    wrong: the lines that were refused, and those whose id means another job in the folder. manifest: with all jobs
    entered, not yet written.
    """

    folder: Path
    config: VideoModelConfig
    manifest: Manifest
    plans: list[ResolvedJob]
    todo: list[ResolvedJob]
    wrong: list[Refused]


def synthesise(
    request: SynthRequest,
    progress: Progress | None = None,
    complain: Callable[[str], None] | None = None,
    place: Callable[..., Placement] = LocalWorkers,
    watchdog: Watchdog | None = None,
    timeline: list[Span] | None = None,
) -> dict[str, Any]:
    """Make the videos of all jobs, except those that an earlier call finished. Returns the number of done and failed
    jobs, and the content of the manifest.

    All jobs are checked before a world is loaded. A job that fails is marked in the manifest, and the others continue;
    complain receives one line for it, and for every lost worker. place: makes workers from their number, the model, the
    device and the rows, with `memory=False` for a world without its memory. watchdog: decides when a worker hangs.
    timeline: receives the spans of all finished tasks. Raises UsageError or VidarError if nothing can be made.
    """
    say = complain or (lambda line: None)
    jobs = _Jobs(request)
    with lock_videos(jobs.out):
        batch = jobs.enter()
        batch.manifest.save()
        complain_of(request, batch, say)
        page = Page(batch.manifest, (batch.config.width, batch.config.height))
        if batch.todo:
            page.write(running=True)
            try:
                _make(request, batch, page, progress or (lambda *_: None), say, place, watchdog, timeline)
            except BaseException:
                with suppress(VidarError):
                    page.write(running=False)
                raise
        page.write(running=False)
    return {**counts(batch), **batch.manifest.content()}


def check(request: SynthRequest) -> Batch:
    """Check a request as `synthesise` does, without writing or locking anything. Raises UsageError or VidarError."""
    jobs = _Jobs(request)
    check_videos(jobs.out)
    return jobs.enter()


def complain_of(request: SynthRequest, batch: Batch, say: Callable[[str], None]) -> None:
    """One line for every line of the job file that was refused."""
    for one in batch.wrong:
        name = "" if one.id is None else f" job {one.id!r}:"
        say(f"{request.jobs}:{one.line}:{name} {one.error}")


def counts(batch: Batch) -> dict[str, int]:
    """How many jobs of the request are done, and how many are not."""
    wrong = {one.line for one in batch.wrong}
    valid = [plan for plan in batch.plans if plan.line not in wrong]
    done = sum(batch.manifest.entry(plan)["status"] == DONE for plan in valid)
    return {"done": done, "failed": len(valid) + len(wrong) - done}


class _Jobs:
    """The jobs of a request, read and checked."""

    def __init__(self, request: SynthRequest) -> None:
        self.request, self.out = request, Path(request.out)
        self.folder = locate(request.model)
        self.config = load_world_config(self.folder)
        if request.no_memory:
            self.config.check_memory()
        self.default, self.least = segment_frames(self.config, request.segment)
        spread = request.spread_starts
        if spread is None:
            spread = Manifest(self.out).header.get("spread_starts", False)
        starts = starts_of(self.folder, spread)
        self.plans, self.refused = read_jobs(Path(request.jobs), self.config, starts, request.limit)

    def enter(self) -> Batch:
        """Read the manifest and enter the jobs. Raises UsageError if the request does not fit the folder."""
        request, manifest = self.request, Manifest(self.out)
        wanted = {
            "device": request.device,
            "rows": request.rows,
            "segment": request.segment,
            "spread_starts": request.spread_starts,
            "no_memory": request.no_memory,
        }
        usual = {"rows": ROWS, "segment": self.default, "spread_starts": False, "no_memory": False}
        manifest.settle(wanted, usual)
        length = manifest.header["segment"]
        if length < self.least:
            raise UsageError(f"--segment {length}: this world looks {self.least} frames back; give at least as many")
        about = {"fps": self.config.fps, **versions(), "threads": 1}
        manifest.header = {"model": request.model, **manifest.header, **about}
        todo, changed = manifest.enter(self.plans, self.refused, manifest.header["rows"])
        wrong = sorted([*self.refused, *changed], key=lambda one: one.line)
        return Batch(self.folder, self.config, manifest, self.plans, todo, wrong)


def _make(
    request: SynthRequest,
    batch: Batch,
    page: Page,
    progress: Progress,
    say: Callable[[str], None],
    place: Callable[..., Placement],
    watchdog: Watchdog | None,
    timeline: list[Span] | None,
) -> None:
    """Make the unfinished videos of a batch; see `synthesise`."""
    manifest, todo = batch.manifest, batch.todo
    options = {"memory": False} if manifest.header["no_memory"] else {}
    placement = place(request.workers, str(batch.folder), request.device, manifest.header["rows"], **options)
    try:
        writer = Writer(manifest, page, len(todo), progress, say)
        flight = request.in_flight or flight_for(request.workers)
        planned = batch.config.order.chain is not None
        queue: TaskQueue = PlannedQueue(todo, writer, flight) if planned else SequentialQueue(todo, writer)
        executor = Executor(queue, placement, manifest, say, watchdog or Watchdog())
        try:
            executor.run()
            writer.encoder.close()
        finally:
            writer.encoder.abandon()
        if timeline is not None:
            timeline += executor.spans
    finally:
        placement.close()


def segment_frames(config: VideoModelConfig, wanted: int | None) -> tuple[int, int]:
    """Frames of a segment: the default, and the smallest number that is allowed.

    Raises UsageError if a world that plans is asked for segments other than its own.
    """
    if config.order.chain is None:
        least, per = boundary_frames(config), config.order.unit_frames
        if wanted is not None and wanted % per:
            raise UsageError(f"--segment {wanted}: this world makes {per} frames together; give a multiple of {per}")
        return max(-(-SEGMENT // per) * per, least), least
    own = chain_of(config.order, config.name).stride
    if wanted not in (None, own):
        raise UsageError(f"--segment {wanted}: this world plans segments of {own} new frames; leave it out")
    return own, own
