"""Jobs: a file with one JSON object a line, checked whole before anything is computed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import Field

from vidar.conditioning.config import Told
from vidar.config import Config, to_dict
from vidar.model.files import read_actions, read_context
from vidar.model.model import VideoModelConfig
from vidar.synth.random_actions import random_actions
from vidar.types import UsageError, VidarError

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
PLANNERS = IN_TURN, AHEAD = "autoregressive", "plan"
MANIFEST = "manifest.json"
LARGEST = 8192  # pixels of a side
LOOSE = ("frames", "seconds", "type", "fps")  # fields of a job that its frames do not follow from


class Job(Config):
    """One video. frames or seconds: how long, context not counted. Paths are as they would be typed.

    context: .mp4 or .png (None: the start clip of the model). actions: .npy [N, A], N at least the frames (None: a walk
    that follows from the seed). size: width and height of the video, even (None: the world's). planner:
    "autoregressive", or "plan" for a world that plans its segments. prompt, label: where the world takes one.
    """

    id: str = Field(strict=True)
    seed: int = Field(strict=True)
    frames: int | None = Field(default=None, ge=1, strict=True)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    context: str | None = None
    actions: str | None = None
    prompt: str | None = None
    label: int | None = Field(default=None, strict=True)
    fps: float | None = None
    size: tuple[int, int] | None = None
    planner: str = IN_TURN

    @property
    def told(self) -> Told:
        """What is told of the whole video."""
        return Told(self.prompt, self.label)


@dataclass(frozen=True)
class ResolvedJob:
    """A job that can be done. line: of the file, from 1; digest: of all that its frames follow from."""

    job: Job
    line: int
    frames: int
    start: str
    digest: str
    config: VideoModelConfig = field(repr=False)

    def context(self) -> np.ndarray:
        """uint8 [T, H, W, 3], the last frames that the world looks at."""
        return read_context(self.start, self.config)[-self.config.context :]

    def actions(self) -> np.ndarray:
        """float32 [frames, A]."""
        if self.job.actions is None:
            return random_actions(self.config.spec, self.job.seed, self.frames)
        return read_actions(self.job.actions, self.config)[: self.frames]


@dataclass(frozen=True)
class Refused:
    """A line that is no job that can be done. error: what is wrong, in one line."""

    line: int
    id: str | None
    error: str


def outputs(name: str) -> tuple[str, ...]:
    """The names that the job called `name` takes in the folder."""
    return tuple(f"{name}{end}" for end in (".mp4", ".json", ".png", ".drift.png", ".parts"))


def read_jobs(file: Path, config: VideoModelConfig, start: Path | None) -> tuple[list[ResolvedJob], list[Refused]]:
    """Every line is read and checked. start: the context of jobs that name none.

    Raises UsageError where there is no such file, or nothing in it.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{file}: not readable as a file of jobs ({error.strerror})") from None
    reader, plans, refused = _Reader(config, start), list[ResolvedJob](), list[Refused]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        data: Any = None
        try:
            data = _parse(line)
            plans.append(reader.plan(Job(**data), number))
        except VidarError as error:
            name = cast(Any, data).get("id") if isinstance(data, Mapping) else None
            refused.append(Refused(number, name if isinstance(name, str) else None, str(error)))
    if not plans and not refused:
        raise UsageError(f"{file}: holds no jobs; write one JSON object a line, with id, seed and frames")
    return plans, refused


def _parse(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise VidarError(f"not readable as JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(data, dict):
        raise VidarError('is not an object; write {"id": "a", "seed": 0, "frames": 64}')
    return cast(dict[str, Any], data)


class _Reader:
    """Checks jobs one after the other; every context is read once."""

    def __init__(self, config: VideoModelConfig, start: Path | None) -> None:
        self.config, self.start = config, start
        self.names: dict[str, tuple[str, int]] = {MANIFEST: ("the manifest", 0)}
        self.contexts: dict[str, str] = {}

    def plan(self, job: Job, line: int) -> ResolvedJob:
        """Raises VidarError saying what is wrong with a job."""
        self._check_id(job)
        frames = self._frames(job)
        self._check_options(job)
        start = job.context if job.context is not None else None if self.start is None else str(self.start)
        if start is None:
            raise VidarError(
                f"world {self.config.name!r} ships no start; give the job a context: clip.mp4 or picture.png"
            )
        if start not in self.contexts:
            self.contexts[start] = _sha256(self._context(start))
        actions = "walk"
        if job.actions is not None:
            rows = read_actions(job.actions, self.config)
            if len(rows) < frames:
                raise VidarError(f"{job.actions}: {len(rows)} actions are too few for {frames} frames; one row a frame")
            actions = _sha256(rows[:frames])
        told = {key: value for key, value in to_dict(job).items() if key not in LOOSE}
        told = {key: value for key, value in told.items() if value is not None or key != "label"}  # a younger field
        follows = json.dumps({**told, "frames": frames, "start": self.contexts[start], "rows": actions}, sort_keys=True)
        for name in outputs(job.id):
            self.names[name] = job.id, line
        return ResolvedJob(job, line, frames, start, hashlib.sha256(follows.encode()).hexdigest()[:32], self.config)

    def _context(self, start: str) -> np.ndarray:
        frames = read_context(start, self.config)[-self.config.context :]
        if self.config.order.chain is not None:
            least = len(self.config.order.chain.map.frames(0))
            if len(frames) < least:
                raise VidarError(f"{start}: {len(frames)} frames; this world's segments start from {least} or more")
        return frames

    def _check_id(self, job: Job) -> None:
        if not ID.fullmatch(job.id):
            raise VidarError(f"id {job.id!r} cannot name a file; use up to 200 of A-Z a-z 0-9 . _ - and no dot first")
        for name in outputs(job.id):
            if name in self.names:
                other, line = self.names[name]
                where = f"job {other!r} of line {line}" if line else other
                raise VidarError(f"id {job.id!r}: {name} is already taken by {where}; give it another id")

    def _check_planner(self, planner: str) -> None:
        plans = self.config.order.chain is not None
        if planner not in PLANNERS:
            raise VidarError(f"planner {planner!r}: there is {', '.join(PLANNERS)}; leave it out")
        if planner == AHEAD and not plans:
            raise VidarError(f"planner {AHEAD!r}: world {self.config.name!r} makes its frames in turn; leave it out")
        if planner == IN_TURN and plans:
            name = self.config.name
            raise VidarError(f'planner {IN_TURN!r}: world {name!r} plans its segments; give "planner": "{AHEAD}"')

    def _frames(self, job: Job) -> int:
        if (job.frames is None) == (job.seconds is None):
            raise VidarError("give exactly one of frames and seconds")
        frames = job.frames if job.frames is not None else round((job.seconds or 0.0) * self.config.fps)
        if frames < 1:
            raise VidarError(f"seconds {job.seconds:g} are less than a frame at {self.config.fps:g} frames a second")
        return frames

    def _check_options(self, job: Job) -> None:
        fps, size = self.config.fps, job.size
        if job.fps is not None and not abs(job.fps - fps) <= 1e-3 * fps:
            raise VidarError(f"fps {job.fps:g}: this world runs at {fps:g}; leave it out")
        self.config.check_told(job.told)
        self._check_planner(job.planner)
        if size is not None and not all(0 < side <= LARGEST and side % 2 == 0 for side in size):
            raise VidarError(f"size {list(size)}: width and height must be even, from 2 to {LARGEST}")


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
