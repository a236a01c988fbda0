"""Segments, the units of work. A segment's frames are a function of world, seed, actions, boundary and capacity.

A segment continues from a boundary: the codes and actions of the last frames before it, and what a memory holds beyond
them. Keys are neither stored nor sent; a worker recomputes them from the boundary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from vidar.conditioning.config import NOTHING, Told
from vidar.data.atomic import replacing
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.rng import Rng
from vidar.rollout.turns import check_in_turn
from vidar.synth.graph import Item, Kind
from vidar.types import UsageError, VidarError

MEMORY = "memory/"  # begins the names of what a memory holds, in a file of a boundary
CHUNK = 8  # frames decoded in one call; the bits depend on it


@dataclass(frozen=True)
class ContinuationState:
    """The last frames before a segment: codes float32 [K, n, C], actions float32 [K, A]; first: number of row 0.

    Row t of the actions acts between frames t-1 and t; row 0 is not used. memory: see `Turns.carried`.
    """

    codes: np.ndarray
    actions: np.ndarray
    first: int
    memory: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])


@dataclass(frozen=True)
class Task:
    """Make segment `number` of job `job` in row `row` of the forward pass.

    start: its boundary, or the context uint8 [T, H, W, 3] of the first segment, whose actions are unknown.
    actions: float32 [t, A], one row per frame. told: prompt and label of the video.
    """

    job: int
    number: int
    row: int
    seed: int
    start: ContinuationState | np.ndarray
    actions: np.ndarray
    told: Told = NOTHING

    @property
    def item(self) -> Item:
        """The task in the graph. Without plans, a segment is a single POP."""
        return Item(Kind.POP, self.job, self.number)

    @property
    def size(self) -> int:
        """Number of frames to make."""
        return len(self.actions)


@dataclass(frozen=True)
class SegmentResult:
    """A finished segment: frames uint8 [t, H, W, 3], and the boundary of the next one, None for worlds that plan."""

    job: int
    number: int
    frames: np.ndarray
    after: ContinuationState | None

    @property
    def item(self) -> Item:
        """See `Task.item`."""
        return Item(Kind.POP, self.job, self.number)


def boundary_frames(config: VideoModelConfig) -> int:
    """Number of frames K in a boundary: as far as the world looks back through all layers, in whole groups of frames,
    so that continuing is exact up to rounding.

    Raises UsageError for a world that never forgets its first frames, or that has several frames in flight.
    """
    check_in_turn(config.system(), f"world {config.name!r}")
    order, conditioner = config.order, config.conditioner
    if not order.forgets:
        raise UsageError(
            f"world {config.name!r} never forgets its first frames, but synth continues from the last ones alone"
        )
    window = order.past or 0
    history, painted = 0 if conditioner is None else conditioner.looks_back(), config.tokenizer.memory
    per = order.unit_frames
    least = max((config.net.backbone.depth * window + 2) * per + history, painted + 1)
    return -(-least // per) * per


def save_boundary(boundary: ContinuationState, file: Path) -> None:
    """Write a boundary, completely or not at all. Raises VidarError if it cannot be written."""
    with replacing(file) as temporary:
        told = {"vidar": json.dumps({"first": boundary.first})}
        memory = {f"{MEMORY}{name}": array for name, array in boundary.memory.items()}
        arrays = {"codes": boundary.codes, "actions": boundary.actions, **memory}
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, temporary, metadata=told)


def read_boundary(file: Path) -> ContinuationState:
    """Read a file of `save_boundary`. Raises VidarError if it is missing or damaged."""
    try:
        with safe_open(file, "np") as stored:
            first = json.loads((stored.metadata() or {})["vidar"])["first"]
            names = [name for name in stored.keys() if name.startswith(MEMORY)]  # noqa: SIM118  # not a mapping
            memory = {name.removeprefix(MEMORY): stored.get_tensor(name) for name in names}
            return ContinuationState(stored.get_tensor("codes"), stored.get_tensor("actions"), int(first), memory)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise VidarError(f"{file}: not readable as a boundary ({str(error).splitlines()[0]})") from None


class _Part:
    """A segment that is being made."""

    def __init__(self, world: VideoModel, task: Task, codes: Tensor, actions: Tensor, first: int) -> None:
        self.world, self.task, self.first = world, task, first
        self.codes, self.actions = [codes], actions  # codes [1, T, n, C] of the start, then [n, C] of each frame
        self.state: Any = None
        if world.looks_back:
            self.state = world.decode(codes)[1]
        self.waiting: list[Tensor] = []
        self.shown = dict[int, Tensor]()
        self.frames: list[np.ndarray] = []

    def add(self, code: Tensor) -> bool:
        """Add the codes of the next frame, [n, C]. Returns whether it was the last one."""
        self.waiting.append(code)
        last = sum(map(len, self.frames)) + len(self.waiting) == len(self.task.actions)
        if last or len(self.waiting) == CHUNK:
            codes = torch.stack(self.waiting)[None]
            video, state = self.world.decode(codes, self.state)
            self.state = state if self.world.looks_back else None
            self.frames.append(video[0].numpy())
            self.codes.append(codes)
            self.waiting = []
        return last

    def see(self, shown: Mapping[int, Tensor]) -> None:
        """Note what a memory showed of units; a row forgets it sooner than a boundary needs it."""
        self.shown.update(shown)

    def made(self, keep: int, memory: dict[str, Tensor]) -> SegmentResult:
        """The finished segment. keep: number of frames in the boundary of the next one. memory: part of it."""
        if self.shown:
            units = sorted(self.shown)[-keep:]
            memory |= {"units": torch.tensor(units), "shown": torch.stack([self.shown[unit] for unit in units])}
        codes = torch.cat(self.codes, 1)[0]
        actions = np.concatenate([self.actions.numpy(), self.task.actions])
        first, held = self.first + max(0, len(codes) - keep), {name: one.numpy() for name, one in memory.items()}
        after = ContinuationState(codes[-keep:].numpy(), actions[-keep:], first, held)
        return SegmentResult(self.task.job, self.task.number, np.concatenate(self.frames), after)


class SegmentWorker:
    """Makes segments of a world, up to `rows` of them in one forward pass of fixed capacity."""

    def __init__(self, world: VideoModel, rows: int) -> None:
        self.world, self.streams = world, world.rollout(rows)
        self.keep = boundary_frames(world.config)
        self.idle = torch.from_numpy(world.config.spec.noop())

    def make(self, tasks: Sequence[Task]) -> Iterator[SegmentResult]:
        """Yield segments of different rows, each as soon as it is ready. Rows without a task run idle."""
        live = [(task, self._open(task)) for task in tasks]
        time, per = 0, self.streams.per_group
        while live:
            table = self.idle.expand(self.streams.capacity, per, -1).clone()
            for task, _ in live:
                told = torch.from_numpy(task.actions[time : time + per])
                table[task.row, : len(told)] = told
            codes = self.streams.group(table)
            for task, part in list(live):
                part.see(self.streams.rows[task.row].shown)
                if any(part.add(code.clone()) for code in codes[task.row]):
                    live.remove((task, part))
                    yield part.made(self.keep, self.streams.carried(task.row))
            time += per

    def _open(self, task: Task) -> _Part:
        rngs = [Rng(task.seed)]
        if isinstance(task.start, ContinuationState):
            codes, actions = (torch.from_numpy(x)[None] for x in (task.start.codes, task.start.actions))
            opening = [task.row], codes, actions, rngs, task.start.first, [task.told]
            part = _Part(self.world, task, codes, actions[0], task.start.first)
            if task.start.memory:
                self.streams.carry(task.row, {name: torch.from_numpy(x) for name, x in task.start.memory.items()})
                part.see(self.streams.rows[task.row].shown)
                self.streams.reopen(*opening)
            else:
                self.streams.open(*opening)
            return part
        keep = self.world.config.context
        pictures = torch.from_numpy(task.start)[None, -keep:]
        codes = self.world.encode(pictures)
        codes = codes[:, codes.shape[1] - self.streams.frames.whole(codes.shape[1]) :]
        self.streams.open([task.row], codes, None, rngs, told=[task.told], pictures=pictures[:, -codes.shape[1] :])
        return _Part(self.world, task, codes, torch.zeros(codes.shape[1], len(self.idle)), 0)
