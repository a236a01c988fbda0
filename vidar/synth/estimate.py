"""Estimates the time and the disk space of a batch: a probe makes a short piece of its first videos and writes one."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.orders.plan import chain_of
from vidar.rollout.segments import segment_actions
from vidar.synth.driver import Batch, SynthRequest
from vidar.synth.jobs import ResolvedJob
from vidar.synth.planning import Planned, PlanTask, PlanWorker, PopTask, SegmentActions
from vidar.synth.random_actions import random_actions
from vidar.synth.segments import SegmentResult, SegmentWorker, Task
from vidar.synth.video_output import VideoOutput

SHORT, LONG = 8, 24  # frames of the two runs of a probe


@dataclass(frozen=True)
class Making:
    """Seconds of one worker. chain: per segment, what the next segment of the same video waits for; rest: per segment,
    what it does not wait for; frame: per frame. rows: videos that are made in this time together."""

    chain: float
    rest: float
    frame: float
    rows: int

    def longest(self, segments: int, frames: int) -> float:
        """Seconds from the first to the last frame of a video, with any number of workers."""
        return segments * self.chain + self.rest + frames * self.frame

    def work(self, segments: int, frames: int) -> float:
        """Seconds of all workers together for a video that is made alone."""
        return segments * (self.chain + self.rest) + frames * self.frame


@dataclass(frozen=True)
class Writing:
    """Seconds and bytes of the files of one video: per frame and per video."""

    frame_seconds: float
    video_seconds: float
    frame_bytes: float
    video_bytes: float


def estimate(request: SynthRequest, batch: Batch) -> dict[str, Any]:
    """Seconds and bytes for the unfinished videos of a checked batch, what they were measured with, and free bytes."""
    todo, segment = batch.todo, batch.manifest.header["segment"]
    made = {"videos": len(todo), "frames": sum(plan.frames for plan in todo)}
    made |= {"video_seconds": made["frames"] / batch.config.fps, "free_bytes": _free(Path(request.out))}
    if not todo:
        return {**made, "seconds": 0.0, "bytes": 0, "measured": "nothing, since no video is left to make"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have
    try:
        begin = time.perf_counter()
        world = load(batch.folder, request.device, memory=not batch.manifest.header["no_memory"])
        loading = time.perf_counter() - begin
        probe = _planned if batch.config.order.chain is not None else _in_turn
        making, frames = probe(world, todo, batch.manifest.header["rows"])
    finally:
        torch.set_num_threads(threads)
    sizes = {plan.job.size: plan for plan in todo}
    writing = {size: _written(plan, frames) for size, plan in sizes.items()}
    counts = [(-(-plan.frames // segment), plan.frames) for plan in todo]
    together = min(making.rows, -(-len(todo) // request.workers))  # videos in one forward pass
    work = sum(making.work(*count) for count in counts) / together
    files = [writing[plan.job.size] for plan in todo]
    disk = [one.frame_bytes * plan.frames + one.video_bytes for one, plan in zip(files, todo, strict=True)]
    saving = sum(one.frame_seconds * plan.frames + one.video_seconds for one, plan in zip(files, todo, strict=True))
    cores = len(os.sched_getaffinity(0)) if request.device == "cpu" else request.workers + 1
    slowest = max(making.longest(*count) for count in counts)
    seconds = loading + max(slowest, work / request.workers, saving, (work + saving) / cores)
    measured = f"{SHORT if making.frame else 0} + {len(frames)} frames made and written here, by one worker"
    # while the last video is joined, its fragments exist beside it
    return {**made, "seconds": seconds, "bytes": round(sum(disk) + max(disk)), "measured": measured}


def _in_turn(world: VideoModel, todo: list[ResolvedJob], rows: int) -> tuple[Making, np.ndarray]:
    """The probe of a world that makes its frames in turn, and the frames of the first video, uint8 [LONG, H, W, 3]."""
    worker, plans = SegmentWorker(world, rows), todo[:rows]
    seconds: list[float] = []
    frames = np.zeros(0)
    for length in (SHORT, SHORT, LONG):  # the first run warms up
        tasks = [
            Task(n, 0, n, plan.seed, plan.context(), random_actions(plan.config.spec, plan.seed, length), plan.job.told)
            for n, plan in enumerate(plans)
        ]
        begin = time.perf_counter()
        frames = next(made.frames for made in list(worker.make(tasks)) if made.job == 0)
        seconds.append(time.perf_counter() - begin)
    frame = max(0.0, seconds[2] - seconds[1]) / (LONG - SHORT)
    return Making(max(0.0, seconds[1] - SHORT * frame), 0.0, frame, rows), frames


def _planned(world: VideoModel, todo: list[ResolvedJob], rows: int) -> tuple[Making, np.ndarray]:
    """The probe of a world that plans: the first segment of the first video. Segments are made one by one."""
    plan, config = todo[0], world.config
    worker, chain = PlanWorker(world), chain_of(config.order, config.name)
    context = plan.context()
    given = min(len(context), chain.first)
    walk = torch.from_numpy(random_actions(config.spec, plan.seed, chain.made))[None]
    actions = segment_actions(chain, torch.from_numpy(config.spec.noop()), walk, 0, given)
    told = SegmentActions(actions.values[0].numpy(), actions.unknown[0].numpy()), plan.job.told
    seconds = (0.0, 0.0)
    frames = np.zeros(0)
    for _ in range(2):  # the first run warms up
        begin = time.perf_counter()
        planned = cast(Planned, next(worker.make([PlanTask(0, 0, plan.seed, context, *told)])))
        middle = time.perf_counter()
        task = PopTask(0, 0, plan.seed, planned.plan, *told, (given, chain.made))
        made = cast(SegmentResult, next(worker.make([task])))
        seconds, frames = (middle - begin, time.perf_counter() - middle), made.frames
    return Making(*seconds, 0.0, 1), frames


def _written(plan: ResolvedJob, frames: np.ndarray) -> Writing:
    """Write the probe as a video of the job, with all its files, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="vidar-") as place:
        out = Path(place)
        output = VideoOutput(out, replace(plan, frames=len(frames)), len(frames))
        output.find()
        begin = time.perf_counter()
        output.add(SegmentResult(0, 0, frames, None))
        middle = time.perf_counter()
        output.finish({})
        end = time.perf_counter()
        output.clear()
        video = (out / f"{plan.job.id}.mp4").stat().st_size
        rest = sum(file.stat().st_size for file in out.iterdir()) - video
        return Writing((middle - begin) / len(frames), end - middle, video / len(frames), rest)


def _free(out: Path) -> int:
    """Free bytes on the disk of the output folder, which may not exist yet."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
