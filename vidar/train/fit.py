"""`vidar.fit`: one call from a typed config to a trained model on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn

from vidar.config import Builds, to_yaml
from vidar.data.atomic import TEMPORARY, lock_folder, make_folder, replacing, replacing_folder
from vidar.model.load import CONFIG as WORLD
from vidar.model.load import INDEX, load_config, locate
from vidar.model.start_hashes import START
from vidar.model.starts import note_starts, starts_fault, write_starts
from vidar.model.trained import note_steps, trained_steps
from vidar.rng import Rng
from vidar.train import checkpoint, same_data
from vidar.train.checks import OnDisk
from vidar.train.config import TrainConfig
from vidar.train.engine import Engine, PlainEngine
from vidar.train.log import LOG, Log, NoLog, RunLog
from vidar.train.loop import Batches, Method, Stop, TrainState, train
from vidar.train.memory import check_memory
from vidar.train.ranks import is_first
from vidar.train.resume import check_same
from vidar.types import UsageError, VidarError

CHECKPOINTS, EXPORTED, CONFIG = "checkpoints", "model", "config.yaml"
FILES = (CONFIG, LOG, EXPORTED)  # what a run writes beside its checkpoints, whoever wrote it before
MakeEngine = Callable[[TrainConfig, nn.Module, torch.device], Engine]


@dataclass(frozen=True)
class FitResult:
    """The result of a run. stopped: the signal that ended it early, or None. model: the exported directory."""

    out: Path
    step: int
    elapsed: float
    skipped: int
    stopped: str | None
    checkpoint: Path
    model: Path | None


class Trains(Method, Protocol):
    """A method that builds the model it trains."""

    def build_model(self) -> nn.Module:
        """The model, with fresh weights or those of an earlier run."""
        ...


@runtime_checkable
class Exports(Protocol):
    """A method that writes a model directory."""

    def export(self, model: nn.Module, directory: Path) -> None:
        """Write `model` in the layout that `vidar.load` reads into the empty folder `directory`."""
        ...


@runtime_checkable
class Continues(Protocol):
    """A method whose model is a network that was fresh, or had the weights of another model, before the first step."""

    @property
    def origin(self) -> str | None:
        """Name or folder of that model; None: fresh weights."""
        ...


@runtime_checkable
class Calibrates(Protocol):
    """A method whose model contains constants that depend on the data."""

    def calibrate(self, model: nn.Module, data: Any) -> None:
        """Set the constants before the first step."""
        ...


@runtime_checkable
class Closes(Protocol):
    """Data that holds threads or files."""

    def close(self) -> None:
        """Release them."""
        ...


@runtime_checkable
class Movable(Protocol):
    """A method that holds frozen modules."""

    def to(self, device: torch.device) -> Any:
        """Move them."""
        ...


def fit(
    config: TrainConfig,
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    device: str | None = None,
    engine: MakeEngine = PlainEngine,
) -> FitResult:
    """Train, save checkpoints, and export the averaged model to out/model.

    engine: makes the Engine of the run; with several processes, each calls `fit` and rank 0 writes. resume: "auto"
    continues from the newest complete checkpoint of `out`, or starts anew if there is none; or the path of a
    checkpoint. SIGTERM and SIGINT save a checkpoint and return. `out` is held meanwhile: no other process trains there.
    Raises UsageError before anything is built if `out` cannot be used or another process holds it, the checkpoint
    belongs to another config (see `vidar.train.resume`) or memory is short; VidarError if training cannot continue.
    """
    folder = Path(out or config.out or Path("runs") / config.name)
    with lock_folder(folder, "vidar train") if is_first() else nullcontext():
        start = check(folder, resume)
        if start is not None:
            check_same(start, config)
            same_data.check(start.parent.parent, config.data)
        return _fit(config, folder, start, device, engine)


def _fit(config: TrainConfig, folder: Path, start: Path | None, device: str | None, engine: MakeEngine) -> FitResult:
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    check_memory(config, where)
    cuda = [torch.cuda.current_device()] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), Stop() as stop:
        if is_first():
            same_data.store(folder, config.data)  # before they are read: a shard that is added meanwhile is new
        state = build(config, folder, where, engine)
        if start is not None:
            state.counters = state.engine.load(start)
        if config.compile:
            state.model.compile()
        writes = state.engine.ranks.rank == 0
        if writes:
            with replacing(folder / CONFIG) as file:
                file.write_text(to_yaml(config))
        log = RunLog(folder, config.name, state.counters.step) if writes else NoLog()
        try:
            for path in checkpoint.damaged(folder / CHECKPOINTS):
                log.event("damaged", state.counters.step, checkpoint=str(path), remedy="not used; remove it")
            train(state, log, stop)
            exported = export(state, log) if stop.signal is None else None
            log.event("stopped" if stop.signal else "done", state.counters.step, checkpoint=str(state.checkpoint))
        finally:
            log.close()
            if isinstance(state.data, Closes):
                state.data.close()
    assert state.checkpoint is not None
    done = state.counters
    return FitResult(folder, done.step, done.elapsed, done.skipped, stop.signal, state.checkpoint, exported)


def check(folder: Path, resume: str | os.PathLike[str] | None) -> Path | None:
    """Prepare `out` and return the checkpoint to start from, or None. Raises UsageError if `out` cannot be used.

    Choice: a folder without `checkpoints` is no run, and files under the names of a run's are not replaced there.
    """
    checkpoints = folder / CHECKPOINTS
    newest, damaged = checkpoint.newest(checkpoints), checkpoint.damaged(checkpoints)
    if resume is None and (newest or damaged):
        raise UsageError(f"{folder} already holds a run; resume='auto' continues it, or choose another out")
    if resume == "auto" and damaged and newest is None:
        raise UsageError(f"{damaged[-1]}: damaged, and there is no other checkpoint; remove it to start anew")
    if resume not in (None, "auto") and not checkpoint.is_complete(Path(resume)):
        raise UsageError(f"{resume}: not a complete checkpoint; resume='auto' takes the newest complete one")
    if is_first():
        taken = [name for name in FILES if (folder / name).exists() and not checkpoints.is_dir()]
        if taken:
            raise UsageError(f"{folder}: holds {taken[0]}, but no run ({CHECKPOINTS} is missing); choose another out")
        make_folder(checkpoints)
        checkpoint.clean(checkpoints)
        for left in (folder / EXPORTED).glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
    return newest if resume == "auto" else Path(resume) if resume else None


def build(config: TrainConfig, folder: Path, device: torch.device, engine: MakeEngine = PlainEngine) -> TrainState:
    """Everything a run holds, from its config; the weights are a function of the seed."""
    data = cast(Builds[Batches], config.data).build()
    method = cast(Builds[Trains], config.method).build()
    if isinstance(method, Movable):
        method.to(device)
    torch.manual_seed(int(Rng(config.seed).raw("weights", 0, 0, 1)[0] >> 1))
    model = method.build_model().to(device)
    if isinstance(method, Calibrates):
        method.calibrate(model, data)
    return TrainState(config, folder, method, data, engine(config, model, device))


def export(state: TrainState, log: Log) -> Path | None:
    """Write the averaged model to out/model where the method can, on rank 0; a world gets start clips of its data."""
    if not isinstance(state.method, Exports):
        return None
    directory, averaged = state.out / EXPORTED, state.engine.averaged()
    if state.engine.ranks.rank == 0:
        with replacing_folder(directory, INDEX) as temporary:
            state.method.export(averaged, temporary)
            if isinstance(state.method, Continues) and (temporary / INDEX).is_file():
                note_steps(temporary, steps_since_fresh(state.method, state.counters.step))
            if fault := starts_fault(directory):
                log.event("start clips are made again", state.counters.step, reason=fault)
            if fault or not (directory / START).is_file():
                give_starts(temporary, state, log)
            if (temporary / INDEX).is_file():
                note_starts(temporary, directory)
    return directory


def steps_since_fresh(method: Continues, steps: int) -> int | None:
    """The steps of all runs that trained the weights of an exported model, `steps` in this one; None: not known."""
    if method.origin is None:
        return steps
    before = trained_steps(locate(method.origin))
    return None if before is None else before + steps


def give_starts(directory: Path, state: TrainState, log: Log) -> None:
    """Write start clips of the training data into an exported world that has none; a failure is only logged."""
    data = state.config.data
    if (directory / START).is_file() or not isinstance(data, OnDisk) or not (directory / WORLD).is_file():
        return
    if not load_config(directory).clips:
        try:
            write_starts(directory, data.path)
        except VidarError as error:  # the trained weights matter more
            log.event("no start clips", state.counters.step, reason=str(error))
