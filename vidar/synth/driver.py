"""The driver: hands segments to workers, takes what they made to the writer, and says what became of every job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from vidar.config import Config
from vidar.synth.encoder import Encoder
from vidar.synth.film import Film
from vidar.synth.jobs import Plan, read_jobs
from vidar.synth.manifest import DONE, FAILED, RUNNING, Manifest, held
from vidar.synth.placement import Event, Lost, Placement, Ready
from vidar.synth.segments import Made, Task, boundary_frames
from vidar.synth.workers import LocalWorkers
from vidar.types import UsageError, VidarError
from vidar.world.clip import versions
from vidar.world.load import START, load_config, locate

ROWS, SEGMENT = 4, 64
MOST_LOSSES = 3  # workers that one segment may cost before its job fails

Progress = Callable[[str, int, int, int], None]  # id, frames that are written, frames of the video, videos to go


class SynthRequest(Config):
    """What to make. jobs: a file of jobs (vidar.synth.jobs). out: folder of the videos; what is finished there stays.

    rows: segments in one forward; segment: their frames. Both decide bits, so None: as the videos of `out` are made, or
    4 and 64, more where the world looks further back.
    """

    model: str
    jobs: str
    out: str
    workers: int = Field(default=1, ge=1)
    rows: int | None = Field(default=None, ge=1)
    segment: int | None = Field(default=None, ge=1)
    device: str = "cpu"


def synthesise(
    request: SynthRequest,
    progress: Progress | None = None,
    complain: Callable[[str], None] | None = None,
    place: Callable[[int, str, str, int], Placement] = LocalWorkers,
) -> dict[str, Any]:
    """Make the videos of all jobs; those that an earlier call has finished stay. Returns how many are done and how
    many have failed, and what stands in the manifest.

    All jobs are checked before a world is loaded. A job that cannot be done has an error there and the others go on;
    complain is told of it, and of lost workers, in one line. place: workers from their number, model, device and rows.
    Raises UsageError or VidarError where nothing can be done.
    """
    say = complain or (lambda line: None)
    folder = locate(request.model)
    config = load_config(folder)
    least = boundary_frames(config)
    start = folder / START if (folder / START).is_file() else None
    plans, refused = read_jobs(Path(request.jobs), config, start)
    out = Path(request.out)
    with held(out):
        manifest = Manifest(out)
        wanted = {"device": request.device, "rows": request.rows, "segment": request.segment}
        manifest.settle(wanted, {"rows": ROWS, "segment": max(SEGMENT, least)})
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
                Run(todo, manifest, placement, progress or (lambda *_: None), say).run()
            finally:
                placement.close()
    lost = {one.line for one in changed}
    done = sum(plan.line not in lost and manifest.entry(plan)["status"] == DONE for plan in plans)
    return {"done": done, "failed": len(plans) + len(refused) - done, **manifest.told()}


class Run:
    """The jobs of one call on their way. A segment is worked on by one worker at a time, those of a job in turn."""

    def __init__(
        self,
        plans: Sequence[Plan],
        manifest: Manifest,
        placement: Placement,
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        self.plans, self.manifest, self.placement, self.progress, self.say = plans, manifest, placement, progress, say
        self.rows, self.segment = manifest.header["rows"], manifest.header["segment"]
        self.unstarted, self.left = list(range(len(plans))), len(plans)
        self.films: dict[int, Film] = {}  # of jobs with segments still to be made
        self.actions: dict[int, Any] = {}  # of the same jobs, float32 [T, A]
        self.ready: list[Task] = []
        self.losses: Counter[tuple[int, int]] = Counter()
        self.encoder = Encoder[tuple[Film, Made | None]](self._write, room=self.rows)

    def run(self) -> None:
        """Until every job is done or has failed. Raises VidarError where the folder cannot be written."""
        try:
            while True:
                self._hand_out()
                if not (self.unstarted or self.films):
                    break
                for event in self.placement.wait():
                    self._take(event)
            self.encoder.close()
        finally:
            self.encoder.abandon()

    def _hand_out(self) -> None:
        while self.placement.free and (batch := self._batch()):
            self.placement.submit(batch)

    def _batch(self) -> list[Task]:
        """Tasks for one worker: of the jobs that began first, in different rows, a fair share of what there is.

        One that has cost a worker is alone, so that it costs its neighbours no second one.
        """
        share = -(-(len(self.ready) + len(self.unstarted)) // max(1, self.placement.free))
        batch: list[Task] = []
        self.ready.sort(key=lambda task: task.job)
        if self.ready and self.losses[self.ready[0].job, self.ready[0].number]:
            return [self.ready.pop(0)]
        for task in list(self.ready):
            alone = self.losses[task.job, task.number] > 0
            if len(batch) < min(self.rows, share) and not alone and task.row not in {other.row for other in batch}:
                self.ready.remove(task)
                batch.append(task)
        for job in list(self.unstarted):
            row = self.manifest.entry(self.plans[job])["row"]
            if len(batch) >= min(self.rows, share):
                break
            if row not in {other.row for other in batch}:
                self.unstarted.remove(job)
                batch += self._begin(job, row)
        return batch

    def _begin(self, job: int, row: int) -> list[Task]:
        """The next task of a job, where it has one."""
        plan = self.plans[job]
        film = Film(self.manifest.file.parent, plan, self.segment)
        try:
            start = film.recover()
            self.manifest.note(plan, RUNNING, film=film)
            if film.counts:
                self.progress(plan.job.id, film.frames, plan.frames, self.left)
            if len(film.counts) == film.total:
                self.encoder.put((film, None))
                return []
            actions, start = plan.actions(), plan.context() if start is None else start
        except VidarError as error:  # a file of the job has gone since it was checked
            self._fail(plan, str(error))
            return []
        self.films[job], self.actions[job] = film, actions
        return [self._task(job, row, len(film.counts), start)]

    def _task(self, job: int, row: int, number: int, start: Any) -> Task:
        first = number * self.segment
        actions = self.actions[job][first : first + self.segment]
        return Task(job, number, row, self.plans[job].job.seed, start, actions)

    def _take(self, event: Event) -> None:
        if isinstance(event, Ready):
            self._check(event)
        elif isinstance(event, Made):
            self._made(event)
        else:
            self._lost(event)

    def _check(self, worker: Ready) -> None:
        """All workers have the weights that the videos in the folder were made with."""
        header = self.manifest.header
        for name, value in (("weights", worker.weights), ("dtype", worker.dtype)):
            if header.setdefault(name, value) != value:
                raise UsageError(
                    f"{self.manifest.file}: its videos were made with {name} {header[name]}, the model here has "
                    f"{value}; give another folder"
                )

    def _made(self, made: Made) -> None:
        film = self.films[made.job]
        self.encoder.put((film, made))
        if made.number + 1 < film.total:
            row = self.manifest.entry(film.plan)["row"]
            self.ready.append(self._task(made.job, row, made.number + 1, made.after))
        else:
            del self.films[made.job], self.actions[made.job]

    def _lost(self, lost: Lost) -> None:
        self.say(f"a worker was lost ({lost.reason}); segments to make again: {len(lost.tasks)}")
        for task in lost.tasks:
            self.losses[task.job, task.number] += 1
            if self.losses[task.job, task.number] < MOST_LOSSES:
                self.ready.append(task)
                continue
            film = self.films.pop(task.job)
            del self.actions[task.job]
            self._fail(film.plan, f"segment {task.number} has cost {MOST_LOSSES} workers; the last: {lost.reason}")

    def _fail(self, plan: Plan, error: str) -> None:
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
            return self._fail(plan, str(error))
        self.left -= 1
        self.manifest.note(plan, DONE, film=film)
        film.clear()
