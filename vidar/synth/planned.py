"""The task queue of planned videos: PLAN and POP of all segments, in the order of `vidar.synth.schedule`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vidar.model.model import VideoModelConfig
from vidar.orders.plan import chain_of
from vidar.rollout.segments import segment_actions
from vidar.synth.graph import Item, Kind, Link, graph_of, links
from vidar.synth.jobs import ResolvedJob
from vidar.synth.planning import Anchors, Planned, PlanTask, PopTask, SegmentActions, read_anchors, save_anchors
from vidar.synth.schedule import Scheduler
from vidar.synth.segments import SegmentResult
from vidar.synth.video_output import VideoOutput
from vidar.synth.writer import Writer
from vidar.types import VidarError

ENOUGH = 3  # number of segments from which the dependencies of any number follow


@dataclass
class Video:
    """A running job. given: number of context frames that are used. anchors: plans still needed, by segment."""

    output: VideoOutput
    context: np.ndarray
    given: int
    actions: Tensor  # [1, T, A]
    anchors: dict[int, Anchors] = field(default_factory=dict[int, Anchors])
    # populated segments that wait for an earlier one
    held: dict[int, SegmentResult] = field(default_factory=dict[int, SegmentResult])
    handed: int = 0  # number of segments given to the writer


class PlannedQueue:
    """A `TaskQueue` of videos that are planned ahead. in_flight: see `Scheduler`."""

    def __init__(self, plans: Sequence[ResolvedJob], writer: Writer, in_flight: int) -> None:
        self.plans, self.writer = plans, writer
        self.config = plans[0].config
        self.chain, self.pattern = chain_of(self.config.order, self.config.name), pattern_of(self.config)
        self.rest = torch.from_numpy(self.config.spec.noop())
        self.policy = Scheduler(in_flight)
        self.unstarted = list(range(len(plans)))
        self.videos: dict[int, Video] = {}

    @property
    def empty(self) -> bool:
        """See `TaskQueue.empty`."""
        return not (self.unstarted or self.videos)

    def next(self, free: Sequence[int]) -> tuple[int, list[PlanTask | PopTask]] | None:
        """See `TaskQueue.next`. A job starts when the earlier ones leave a worker idle."""
        while free:
            given = self.policy.next(free)
            if given is not None:
                return given[0], [self._task(given[1])]
            if not self.unstarted or self.policy.full:
                break
            self._begin(self.unstarted.pop(0))
        return None

    def take(self, made: Planned | SegmentResult) -> None:
        """See `TaskQueue.take`."""
        video = self.videos.get(made.job)
        if video is not None and isinstance(made, Planned):
            save_anchors(made.plan, video.output.anchors(made.number))
            video.anchors[made.number] = made.plan
        elif video is not None and isinstance(made, SegmentResult):
            video.held[made.number] = made
        self.policy.finished(made.item)  # only after its result is stored
        if video is not None:
            self._hand_over(made.job, video)

    def lose(self, task: PlanTask | PopTask) -> None:
        """See `TaskQueue.lose`."""
        self.policy.lost(task.item)

    def fail(self, task: PlanTask | PopTask, error: str) -> None:
        """See `TaskQueue.fail`."""
        self.policy.lost(task.item)
        video = self.videos.pop(task.job, None)
        if video is not None:
            self.policy.drop(task.job)
            self.writer.fail(video.output.plan, error)

    def _hand_over(self, job: int, video: Video) -> None:
        """Give the next segments to the writer, and drop the plans that are no longer needed."""
        while (made := video.held.pop(video.handed, None)) is not None:
            self.writer.put(video.output, made)
            video.handed += 1
        last = max(video.anchors, default=-1)
        for number in [n for n in video.anchors if n < min(video.handed, last)]:
            del video.anchors[number]
        if video.handed == video.output.total:
            del self.videos[job]
            self.policy.drop(job)

    def _begin(self, job: int) -> None:
        """Find the finished segments and plans of a job, and schedule the missing ones."""
        plan = self.plans[job]
        try:
            context, actions = plan.context(), torch.from_numpy(plan.actions())[None]
            given = min(len(context), self.chain.first)
            output = self.writer.output(plan, first=self.chain.made - given)
            output.find()
            known = _plans(output)
            if not self.writer.begin(output):
                return
        except VidarError as error:  # a file of the job was removed after the check
            return self.writer.fail(plan, str(error))
        count = len(output.counts)
        self.videos[job] = Video(output, context, given, actions, known, handed=count)
        done = [Item(kind, job, segment) for segment in range(count) for kind in Kind]
        done += [Item(Kind.PLAN, job, segment) for segment in known if segment >= count]
        self.policy.enter(job, graph_of(self.pattern, output.total, job), done)

    def _task(self, item: Item) -> PlanTask | PopTask:
        video, number = self.videos[item.job], item.segment
        seed = video.output.plan.seed
        actions = segment_actions(self.chain, self.rest, video.actions, number, video.given)
        told = SegmentActions(actions.values[0].numpy(), actions.unknown[0].numpy()), video.output.plan.job.told
        if item.kind is Kind.PLAN:
            start = video.anchors[number - 1] if number else video.context
            return PlanTask(item.job, number, seed, start, *told)
        first = self.chain.new(number, video.given).start
        return PopTask(
            item.job, number, seed, video.anchors[number], *told, (first, first + video.output.length(number))
        )


def pattern_of(config: VideoModelConfig) -> frozenset[Link]:
    """The dependencies of a world's segments. Raises UsageError if the world plans nothing ahead."""
    length = config.order.unit_frames
    return links(config.order.build(1, 1, ENOUGH * length)[0])


def _plans(output: VideoOutput) -> dict[int, Anchors]:
    """The stored plans that are needed, without a gap: that of the last finished segment and the following ones.

    If segments are finished but no plan is left to continue from, the video starts over.
    """
    count = len(output.counts)
    if count == output.total:
        return {}
    for start in (count - 1, count) if count else (0,):
        found: dict[int, Anchors] = {}
        for number in range(start, output.total):
            try:
                found[number] = read_anchors(output.anchors(number))
            except VidarError:
                break
        if found or not count:
            return found
    output.restart()
    return _plans(output)
