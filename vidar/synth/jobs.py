"""Jobs: the videos of a batch. Every field of every job is checked before anything is computed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field

from vidar.conditioning.config import Told
from vidar.config import Config, to_dict
from vidar.model.files import LARGEST, LONGEST, read_actions, read_context
from vidar.model.model import VideoModelConfig
from vidar.synth.job_file import job_lines, parse_job
from vidar.synth.random_actions import random_actions
from vidar.synth.starts import Starts
from vidar.types import VidarError

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)))  # of Windows
PLANNERS = IN_TURN, AHEAD = "autoregressive", "plan"
MANIFEST, PAGE = "manifest.json", "index.html"
NOT_IN_DIGEST = ("frames", "seconds", "type", "fps")  # fields of a job that do not change its frames

Side = Annotated[int, Field(strict=True)]


class Job(Config):
    """One video. frames or seconds: its length, without the context. Paths are relative to the current folder.

    seed: None: derived from the id. context: .mp4 or .png (None: a start clip of the model, see `read_jobs`). actions:
    .npy [N, A] with at least one row per frame (None: a random walk that follows from the seed). size: width and height
    of the video, even (None: those of the world). planner: "autoregressive", or "plan" for a world that plans its
    segments. prompt, label: for worlds that take one.
    """

    id: str = Field(strict=True)
    seed: int | None = Field(default=None, strict=True)
    frames: int | None = Field(default=None, ge=1, strict=True)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, strict=True)
    context: str | None = None
    actions: str | None = None
    prompt: str | None = None
    label: int | None = Field(default=None, strict=True)
    fps: float | None = Field(default=None, strict=True)
    size: tuple[Side, Side] | None = None
    planner: str = IN_TURN

    @property
    def told(self) -> Told:
        """Prompt and label of the video."""
        return Told(self.prompt, self.label)


def seed_of(name: str) -> int:
    """The seed of a job that gives none: 32 bits of the SHA-256 of its id."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class ResolvedJob:
    """A job that passed all checks. line: its line in the file, from 1; seed: given or derived from the id.

    start: the file of its context; digest: hash of everything that its frames follow from.
    """

    job: Job
    line: int
    seed: int
    frames: int
    start: str
    digest: str
    config: VideoModelConfig = field(repr=False)

    def context(self) -> np.ndarray:
        """The context uint8 [T, H, W, 3]: the last frames that the world reads."""
        return read_context(self.start, self.config)[-self.config.context :]

    def actions(self) -> np.ndarray:
        """The actions float32 [frames, A]."""
        if self.job.actions is None:
            return random_actions(self.config.spec, self.seed, self.frames)
        return read_actions(self.job.actions, self.config)[: self.frames]


@dataclass(frozen=True)
class Refused:
    """A line that did not pass the checks. error: what is wrong, in one line."""

    line: int
    id: str | None
    error: str


def outputs(name: str) -> tuple[str, ...]:
    """The names in the output folder that belong to the job with this id."""
    return tuple(f"{name}{end}" for end in (".mp4", ".json", ".png", ".drift.png", ".parts"))


def read_jobs(
    file: Path, config: VideoModelConfig, starts: Starts | Path | None, limit: float = LONGEST
) -> tuple[list[ResolvedJob], list[Refused]]:
    """Read and check every job of a file. starts: for jobs without a context, or one clip; limit: of a video, in s.

    Raises UsageError if the file cannot be read, holds no jobs, or is of another kind.
    """
    known = starts if isinstance(starts, Starts) else Starts([starts] if starts else [])
    reader = _Reader(config, known, limit)
    plans, refused = list[ResolvedJob](), list[Refused]()
    for number, line in job_lines(file):
        data: Any = None
        try:
            data = parse_job(line)
            plans.append(reader.plan(Job(**data), number))
        except VidarError as error:
            name = cast(Any, data).get("id") if isinstance(data, Mapping) else None
            refused.append(Refused(number, name if isinstance(name, str) else None, str(error)))
    return plans, refused


class _Reader:
    """Checks jobs one after another. Every context is read once."""

    def __init__(self, config: VideoModelConfig, starts: Starts, limit: float) -> None:
        self.config, self.starts, self.limit = config, starts, limit
        # names in the output folder in lower case, with the id and line that they belong to
        self.names: dict[str, tuple[str, int]] = {MANIFEST: ("the manifest", 0), PAGE: ("the page of the batch", 0)}
        self.contexts: dict[str, str] = {}

    def plan(self, job: Job, line: int) -> ResolvedJob:
        """The checked job. Raises VidarError that says what is wrong with it."""
        self._check_id(job)
        frames = self._frames(job)
        self._check_options(job)
        seed = seed_of(job.id) if job.seed is None else job.seed
        start = self._start(job, seed)
        if start not in self.contexts:
            self.contexts[start] = _sha256(self._context(start))
        actions = "walk"
        if job.actions is not None:
            rows = read_actions(job.actions, self.config)
            if len(rows) < frames:
                raise VidarError(
                    f"{job.actions}: {len(rows)} actions are too few for {frames} frames; give one row per frame"
                )
            actions = _sha256(rows[:frames])
        told = {key: value for key, value in to_dict(job).items() if key not in NOT_IN_DIGEST}
        told = {key: value for key, value in told.items() if value is not None or key != "label"}  # a younger field
        told |= {"seed": seed, "frames": frames, "start": self.contexts[start], "rows": actions}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
        for name in outputs(job.id):
            self.names[name.lower()] = job.id, line
        return ResolvedJob(job, line, seed, frames, start, digest, self.config)

    def _start(self, job: Job, seed: int) -> str:
        """The file of the context."""
        if job.context is not None:
            return job.context
        clip = self.starts.clip(seed, named=job.seed is not None)
        if clip is None:
            raise VidarError(
                f"world {self.config.name!r} ships no start.mp4; give the job a context: clip.mp4 or picture.png"
            )
        return str(clip)

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
        if job.id.split(".")[0].lower() in DEVICES:
            raise VidarError(f"id {job.id!r} is the name of a device on Windows; give another id")
        for name in outputs(job.id):
            if name.lower() in self.names:
                other, line = self.names[name.lower()]
                where = f"job {other!r} of line {line}" if line else other
                case = "" if name in (*outputs(other), MANIFEST) else " (upper and lower case count as equal)"
                raise VidarError(f"id {job.id!r}: {name} is already taken by {where}{case}; give it another id")

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
        fps = self.config.fps
        if job.frames is not None:
            given, too_long = f"frames {job.frames}", job.frames > self.limit * fps  # frames may be beyond any float
        else:
            given, too_long = f"seconds {job.seconds:g}", (job.seconds or 0.0) > self.limit
        if too_long:
            raise VidarError(
                f"{given}: longer than the limit of {self.limit:g} seconds for one video; --limit SECONDS raises it"
            )
        frames = job.frames or round((job.seconds or 0.0) * fps)
        if frames < 1:
            raise VidarError(f"{given} are less than a frame at {fps:g} frames a second")
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
