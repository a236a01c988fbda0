"""The driver: hands segments to workers, takes what they made to the writer, and says what became of every job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from vidar.config import Config
from vidar.model.files import versions
from vidar.model.load import START, load_world_config, locate
from vidar.model.model import VideoModelConfig
from vidar.orders.plan import chain_of
from vidar.synth.executor import Executor, TaskQueue
from vidar.synth.jobs import read_jobs
from vidar.synth.manifest import DONE, Manifest, lock_videos
from vidar.synth.placement import Placement
from vidar.synth.planned import PlannedQueue
from vidar.synth.schedule import flight_for
from vidar.synth.segments import boundary_frames
from vidar.synth.sequential import SequentialQueue
from vidar.synth.simulate import Span
from vidar.synth.watchdog import Watchdog
from vidar.synth.workers import LocalWorkers
from vidar.synth.writer import Progress, Writer
from vidar.types import UsageError

ROWS, SEGMENT = 4, 64


class SynthRequest(Config):
    """What to make. jobs: a file of jobs (vidar.synth.jobs). out: folder of the videos; what is finished there stays.

    rows: segments in one forward; segment: their frames. Both decide bits, so None: as the videos of `out` are made, or
    4 and 64, more where the world looks further back. A world that plans has segments of its own, each by itself.
    in_flight: of such a world, segments at most that are planned and not yet written; None: what keeps workers busy.
    """

    model: str
    jobs: str
    out: str
    workers: int = Field(default=1, ge=1)
    rows: int | None = Field(default=None, ge=1)
    segment: int | None = Field(default=None, ge=1)
    in_flight: int | None = Field(default=None, ge=1)
    device: str = "cpu"


def synthesise(
    request: SynthRequest,
    progress: Progress | None = None,
    complain: Callable[[str], None] | None = None,
    place: Callable[[int, str, str, int], Placement] = LocalWorkers,
    watchdog: Watchdog | None = None,
    timeline: list[Span] | None = None,
) -> dict[str, Any]:
    """Make the videos of all jobs; those that an earlier call has finished stay. Returns how many are done and how
    many have failed, and what stands in the manifest.

    All jobs are checked before a world is loaded. A job that cannot be done has an error there and the others go on;
    complain is told of it, and of lost workers, in one line. place: workers from their number, model, device and rows.
    watchdog: when a worker counts as hanging. timeline: gets the spans of all tasks that were done.
    Raises UsageError or VidarError where nothing can be done.
    """
    say = complain or (lambda line: None)
    folder = locate(request.model)
    config = load_world_config(folder)
    default, least = segment_frames(config, request.segment)
    start = folder / START if (folder / START).is_file() else None
    plans, refused = read_jobs(Path(request.jobs), config, start)
    out = Path(request.out)
    with lock_videos(out):
        manifest = Manifest(out)
        wanted = {"device": request.device, "rows": request.rows, "segment": request.segment}
        manifest.settle(wanted, {"rows": ROWS, "segment": default})
        length = manifest.header["segment"]
        if length < least:
            raise UsageError(f"--segment {length}: this world looks {least} frames back; give at least as many")
        manifest.header = {"model": request.model, **manifest.header, "fps": config.fps, **versions(), "threads": 1}
        todo, changed = manifest.enter(plans, refused, manifest.header["rows"])
        for one in sorted([*refused, *changed], key=lambda one: one.line):
            name = "" if one.id is None else f" job {one.id!r}:"
            say(f"{request.jobs}:{one.line}:{name} {one.error}")
        if todo:
            rows = manifest.header["rows"]
            placement = place(request.workers, str(folder), request.device, rows)
            try:
                writer = Writer(manifest, len(todo), progress or (lambda *_: None), say)
                flight = request.in_flight or flight_for(request.workers)
                planned = config.order.chain is not None
                queue: TaskQueue = PlannedQueue(todo, writer, flight) if planned else SequentialQueue(todo, writer)
                executor = Executor(queue, placement, manifest, say, watchdog or Watchdog())
                _to_the_end(executor, writer)
                if timeline is not None:
                    timeline += executor.spans
            finally:
                placement.close()
    lost = {one.line for one in changed}
    done = sum(plan.line not in lost and manifest.entry(plan)["status"] == DONE for plan in plans)
    return {"done": done, "failed": len(plans) + len(refused) - done, **manifest.told()}


def _to_the_end(executor: Executor, writer: Writer) -> None:
    try:
        executor.run()
        writer.encoder.close()
    finally:
        writer.encoder.abandon()


def segment_frames(config: VideoModelConfig, wanted: int | None) -> tuple[int, int]:
    """Frames of a segment: by default, and at least.

    Raises UsageError where a world that plans is asked for others than its own.
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
