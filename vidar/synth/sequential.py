"""The task queue of videos without plans: segments of one video in turn, of several videos as rows of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidar.synth.jobs import ResolvedJob
from vidar.synth.segments import SegmentResult, Task
from vidar.synth.video_output import VideoOutput
from vidar.synth.writer import Writer
from vidar.types import VidarError


class SequentialQueue:
    """A `TaskQueue` of videos without plans."""

    def __init__(self, plans: Sequence[ResolvedJob], writer: Writer) -> None:
        self.plans, self.writer = plans, writer
        self.rows, self.segment = writer.manifest.header["rows"], writer.manifest.header["segment"]
        self.unstarted = list(range(len(plans)))
        self.videos: dict[int, VideoOutput] = {}  # of the running jobs
        self.actions: dict[int, Any] = {}  # of the same jobs, float32 [T, A]
        self.ready: list[Task] = []
        self.again: set[tuple[int, int]] = set()  # job and number of tasks whose worker was lost

    @property
    def empty(self) -> bool:
        """See `TaskQueue.empty`."""
        return not (self.unstarted or self.videos)

    def next(self, free: Sequence[int]) -> tuple[int, list[Task]] | None:
        """See `TaskQueue.next`."""
        batch = self._batch(len(free)) if free else []
        return (free[0], batch) if batch else None

    def take(self, made: SegmentResult) -> None:
        """See `TaskQueue.take`."""
        output = self.videos.get(made.job)
        if output is None:  # the job has failed meanwhile
            return
        self.writer.put(output, made)
        if made.number + 1 < output.total:
            row = self.writer.manifest.entry(output.plan)["row"]
            self.ready.append(self._task(made.job, row, made.number + 1, made.after))
        else:
            del self.videos[made.job], self.actions[made.job]

    def lose(self, task: Task) -> None:
        """See `TaskQueue.lose`."""
        self.again.add((task.job, task.number))
        self.ready.append(task)

    def fail(self, task: Task, error: str) -> None:
        """See `TaskQueue.fail`."""
        output = self.videos.pop(task.job)
        del self.actions[task.job]
        self.writer.fail(output.plan, error)

    def _batch(self, free: int) -> list[Task]:
        """Tasks for one worker: an equal share of the ready ones, in different rows, earlier jobs first.

        A task whose worker was lost gets a batch of its own, so that it cannot fail other tasks with it.
        """
        share = -(-(len(self.ready) + len(self.unstarted)) // free)
        batch: list[Task] = []
        self.ready.sort(key=lambda task: task.job)
        if self.ready and self._alone(self.ready[0]):
            return [self.ready.pop(0)]
        for task in list(self.ready):
            other_row = task.row not in {other.row for other in batch}
            if len(batch) < min(self.rows, share) and not self._alone(task) and other_row:
                self.ready.remove(task)
                batch.append(task)
        for job in list(self.unstarted):
            row = self.writer.manifest.entry(self.plans[job])["row"]
            if len(batch) >= min(self.rows, share):
                break
            if row not in {other.row for other in batch}:
                self.unstarted.remove(job)
                batch += self._begin(job, row)
        return batch

    def _alone(self, task: Task) -> bool:
        return (task.job, task.number) in self.again

    def _begin(self, job: int, row: int) -> list[Task]:
        """Start a job: its next task, or none if it has none."""
        plan = self.plans[job]
        output = self.writer.output(plan)
        try:
            start = output.recover()
            if not self.writer.begin(output):
                return []
            actions, start = plan.actions(), plan.context() if start is None else start
        except VidarError as error:  # a file of the job was removed after the check
            self.writer.fail(plan, str(error))
            return []
        self.videos[job], self.actions[job] = output, actions
        return [self._task(job, row, len(output.counts), start)]

    def _task(self, job: int, row: int, number: int, start: Any) -> Task:
        first = number * self.segment
        actions = self.actions[job][first : first + self.segment]
        return Task(job, number, row, self.plans[job].seed, start, actions, self.plans[job].job.told)
