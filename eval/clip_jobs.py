"""Generate clips in processes with one thread each: the same frames for any number of workers."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidar.conditioning.config import Told
from vidar.config import trust, trusted
from vidar.data.atomic import make_folder
from vidar.data.cache import chosen, keep_in
from vidar.data.resize import resized_crop
from vidar.data.video import BT601, write_video
from vidar.eval.clip_folder import ClipFolder, measure, sha256
from vidar.model.files import lanczos_resized, read_context, read_picture
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.synth.workers import end_with_parent
from vidar.types import UsageError, VidarError

AHEAD = 2  # jobs per worker that wait in its queue


@dataclass(frozen=True)
class ClipJob:
    """One clip. file: its path in the folder. frames: None: the length of the model's clips.

    context: clip or picture to begin with; a picture is cropped and resized to the model's size. actions: float32
    [T, A] for models that take them.
    """

    file: str
    seed: int
    frames: int | None = None
    prompt: str | None = None
    context: str | None = None
    actions: np.ndarray | None = None


@dataclass(frozen=True)
class Setting:
    """What all clips of a folder have in common. size: (width, height) in pixels, None: those of the model."""

    model: str
    device: str = "cpu"
    steps: int | None = None
    size: tuple[int, int] | None = None


class Makers:
    """Worker processes that have loaded a model. A context manager, which ends them."""

    def __init__(self, setting: Setting, folder: Path, workers: int) -> None:
        self.workers = workers
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _begin, (setting, folder, tuple(trusted()), chosen())
        )

    def __enter__(self) -> Makers:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

    def about(self) -> dict[str, str]:
        """Fingerprint (`weights`) and dtype of the model. Raises VidarError if it cannot be loaded."""
        return _result(self._pool.submit(_about))

    def make(self, jobs: Iterable[ClipJob]) -> Iterator[tuple[ClipJob, dict[str, Any]]]:
        """Yield each job with the measures of its clip, as soon as it is finished.

        Raises VidarError if a clip cannot be made or a worker is lost; finished clips stay.
        """
        queue, running = iter(jobs), dict[Future[dict[str, Any]], ClipJob]()
        while True:
            while len(running) < AHEAD * self.workers and (job := next(queue, None)) is not None:
                running[self._pool.submit(_make, job)] = job
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), _result(done)


def make_all(
    clips: ClipFolder,
    todo: Sequence[dict[str, Any]],
    job_of: Callable[[dict[str, Any]], ClipJob],
    makers: Makers,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Make the clips of some entries and note them in the manifest; returns their number.

    The manifest is saved however this ends. Raises as `Makers.make`.
    """
    entries = {str(entry["file"]): entry for entry in todo}
    for place in {(clips.folder / name).parent for name in entries}:
        make_folder(place)
    made = 0
    try:
        for job, measured in makers.make(map(job_of, todo)):
            made += 1
            clips.note(entries[job.file], measured)
            if progress is not None:
                progress(made, len(todo))
    finally:
        clips.save()
    return made


@dataclass
class _Worker:
    setting: Setting | None = None
    folder: Path = Path()
    model: VideoModel | None = None
    problem: str = ""


_worker = _Worker()


def _begin(setting: Setting, folder: Path, packages: Sequence[str], cache: Path | None) -> None:
    """The start of a worker process."""
    for package in packages:
        trust(package)
    keep_in(cache)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it and ends the workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker.setting, _worker.folder = setting, folder
    try:
        _worker.model = load(setting.model, setting.device)
    except VidarError as error:
        _worker.problem = str(error)


def _about() -> dict[str, str]:
    model, _ = _loaded()
    return {"weights": fingerprint(model), "dtype": str(next(model.net.parameters()).dtype).removeprefix("torch.")}


def _make(job: ClipJob) -> dict[str, Any]:
    model, setting = _loaded()
    config = model.config
    context = None if job.context is None else _context(Path(job.context), model)
    if context is not None and config.clips:
        context = context[None]
    made = model.generate(context, job.actions, job.frames, job.seed, steps=setting.steps, prompt=job.prompt)
    file = _worker.folder / job.file
    write_video(file, (lanczos_resized(frame, setting.size) for frame in made.frames[0]), config.fps, matrix=BT601)
    return {"sha256": sha256(file), "bytes": file.stat().st_size, **measure(file)}


def _context(file: Path, model: VideoModel) -> np.ndarray:
    config = model.config
    if file.suffix in (".mp4", ".webm"):
        return read_context(str(file), config)
    return resized_crop(read_picture(file)[None], (config.height, config.width))


def _loaded() -> tuple[VideoModel, Setting]:
    if _worker.model is None or _worker.setting is None:
        raise VidarError(_worker.problem or "the worker has no model")
    return _worker.model, _worker.setting


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        raise VidarError("a worker process was lost (out of memory?); run the same command again to continue") from None


def check_prompts(model: str, config: Any, prompts: Sequence[str]) -> None:
    """Raises UsageError if a model does not read words, or does not take one of the prompts."""
    reader = config.conditioner
    if reader is None or "prompt" not in config.accepts:
        raise UsageError(f"{model}: takes no text, so it has no videos for prompts; use a text-conditioned model")
    if not reader.reads_words:
        raise UsageError(f"{model}: reads features of an external text encoder, not words; use one that reads words")
    for prompt in prompts:
        config.check_told(Told(prompt))
        reader.whole([Told(prompt)])
