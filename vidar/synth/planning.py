"""The tasks of worlds that plan: the anchors of a segment, and the frames between them. They exchange only codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from vidar.conditioning.action import Actions
from vidar.conditioning.config import Told
from vidar.data.atomic import replacing
from vidar.model.model import VideoModel
from vidar.orders.plan import chain_of
from vidar.rng import Rng
from vidar.rollout.segments import Plan, plan, populate
from vidar.synth.graph import Item, Kind
from vidar.synth.segments import CHUNK, SegmentResult, SegmentWorker, Task
from vidar.types import VidarError


@dataclass(frozen=True)
class Anchors:
    """A `vidar.rollout.segments.Plan` of one video: first [k, n, C], anchors [p, n, C], after [k, n, C], float32."""

    first: np.ndarray
    anchors: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class SegmentActions:
    """The actions of a segment: values float32 [N, A], unknown bool [N] (`vidar.rollout.segments.segment_actions`)."""

    values: np.ndarray
    unknown: np.ndarray


@dataclass(frozen=True)
class PlanTask:
    """Plan segment `number` of job `job`. start: the plan of the segment before, for segment 0 the context, uint8."""

    job: int
    number: int
    seed: int
    start: Anchors | np.ndarray
    actions: SegmentActions
    told: Told

    @property
    def item(self) -> Item:
        """The task in the graph."""
        return Item(Kind.PLAN, self.job, self.number)

    size = 1


@dataclass(frozen=True)
class PopTask:
    """Populate a segment. new: range (start, end) of its frames that the earlier segments do not contain.

    Frames after the end of the video are generated and dropped.
    """

    job: int
    number: int
    seed: int
    plan: Anchors
    actions: SegmentActions
    told: Told
    new: tuple[int, int]

    @property
    def item(self) -> Item:
        """The task in the graph."""
        return Item(Kind.POP, self.job, self.number)

    size = 1


@dataclass(frozen=True)
class Planned:
    """The plan of a segment."""

    job: int
    number: int
    plan: Anchors

    @property
    def item(self) -> Item:
        """The task in the graph."""
        return Item(Kind.PLAN, self.job, self.number)


class PlanWorker:
    """Does tasks one by one, so that the bits of a result depend on its task alone."""

    def __init__(self, world: VideoModel) -> None:
        self.world, self.chain = world, chain_of(world.config.order, world.config.name)
        self.setting = world.setting()

    def make(self, tasks: Sequence[PlanTask | PopTask]) -> Iterator[Planned | SegmentResult]:
        """Yield the result of each task."""
        for task in tasks:
            yield self._plan(task) if isinstance(task, PlanTask) else self._populate(task)

    def _plan(self, task: PlanTask) -> Planned:
        if isinstance(task.start, Anchors):
            first = torch.from_numpy(task.start.after)[None]
        else:
            first = self.world.encode(torch.from_numpy(task.start)[None])[:, -self.chain.first :]
        made = plan(self.setting, first, _actions(task.actions), [Rng(task.seed)], task.number, [task.told])
        first, anchors, after = (codes[0].contiguous().numpy() for codes in (made.first, made.anchors, made.after))
        return Planned(task.job, task.number, Anchors(first, anchors, after))

    def _populate(self, task: PopTask) -> SegmentResult:
        given = task.plan
        first, anchors, after = (torch.from_numpy(x)[None] for x in (given.first, given.anchors, given.after))
        made = Plan(task.number, first, anchors, after)
        codes = populate(self.setting, made, _actions(task.actions), [Rng(task.seed)], task.number, [task.told])
        return SegmentResult(task.job, task.number, self._pictures(codes, *task.new), None)

    def _pictures(self, codes: Tensor, start: int, end: int) -> np.ndarray:
        """Codes [1, m, n, C] of a segment -> uint8 [end - start, H, W, 3].

        Choice: a tokenizer that looks back reads the segment's own first frames and no other segment, so that segments
        can be decoded in any order; as in the released code.
        """
        looks_back = self.world.looks_back
        state = self.world.decode(codes[:, :start])[1] if looks_back else None
        frames: list[np.ndarray] = []
        for piece in codes[:, start:end].split(CHUNK, 1):
            video, after = self.world.decode(piece, state)
            state = after if looks_back else None
            frames.append(video[0].numpy())
        return np.concatenate(frames)


class AnyWorker(Protocol):
    """The interface of `PlanWorker` and `SegmentWorker`."""

    def make(self, tasks: Sequence[Task | PlanTask | PopTask]) -> Iterator[SegmentResult | Planned]:
        """Yield the results of a batch, each as soon as it is made."""
        ...


def worker_for(world: VideoModel, rows: int) -> AnyWorker:
    """The worker for a world. rows: number of tasks in one forward pass, for worlds that make frames in turn."""
    planned = world.config.order.chain is not None
    return cast(AnyWorker, PlanWorker(world) if planned else SegmentWorker(world, rows))


def save_anchors(plan: Anchors, file: Path) -> None:
    """Write a plan, completely or not at all. Raises VidarError if it cannot be written."""
    with replacing(file) as temporary:
        arrays = {"first": plan.first, "anchors": plan.anchors, "after": plan.after}
        told = {"vidar": json.dumps({"holds": "plan"})}
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, temporary, metadata=told)


def read_anchors(file: Path) -> Anchors:
    """Read a file of `save_anchors`. Raises VidarError if it is missing or damaged."""
    try:
        with safe_open(file, "np") as stored:
            return Anchors(*(stored.get_tensor(name) for name in ("first", "anchors", "after")))
    except (OSError, SafetensorError, ValueError) as error:
        raise VidarError(f"{file}: not readable as a plan ({str(error).splitlines()[0]})") from None


def _actions(told: SegmentActions) -> Actions:
    return Actions(torch.from_numpy(told.values)[None], torch.from_numpy(told.unknown)[None])
