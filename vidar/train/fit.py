"""`vidar.fit`: one call from a typed config to a trained model on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn

from vidar.config import Builds, to_yaml
from vidar.model.load import CONFIG, START, load_config
from vidar.model.starts import write_starts
from vidar.rng import Rng
from vidar.train import checkpoint
from vidar.train.checks import OnDisk
from vidar.train.config import TrainConfig
from vidar.train.engine import Engine, PlainEngine
from vidar.train.log import Log, NoLog, RunLog
from vidar.train.loop import Batches, Method, Stop, TrainState, train
from vidar.train.memory import check_memory
from vidar.train.ranks import is_first
from vidar.train.resume import check_same
from vidar.types import UsageError, VidarError

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
        """Write `model` in the layout that `vidar.load` reads, replacing an earlier model in `directory`."""
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
    checkpoint. SIGTERM and SIGINT save a checkpoint and return. Raises UsageError before anything is built if `out`
    cannot be used, the checkpoint belongs to another config (see `vidar.train.resume`) or memory is short; VidarError
    if training cannot continue.
    """
    folder = Path(out or config.out or Path("runs") / config.name)
    start = check(folder, resume)
    if start is not None:
        check_same(start, config)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    check_memory(config, where)
    cuda = [torch.cuda.current_device()] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), Stop() as stop:
        state = build(config, folder, where, engine)
        if start is not None:
            state.counters = state.engine.load(start)
        if config.compile:
            state.model.compile()
        writes = state.engine.ranks.rank == 0
        if writes:
            (folder / "config.yaml").write_text(to_yaml(config))
        log = RunLog(folder, config.name, state.counters.step) if writes else NoLog()
        try:
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
    """Create `out` and return the checkpoint to start from, or None. Raises UsageError if `out` cannot be used."""
    checkpoints = folder / "checkpoints"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: out is not a directory; choose another out")
    if resume is None and checkpoint.newest(checkpoints) is not None:
        raise UsageError(f"{folder} already holds a run; resume='auto' continues it, or choose another out")
    if resume not in (None, "auto") and not checkpoint.is_complete(Path(resume)):
        raise UsageError(f"{resume}: not a complete checkpoint; resume='auto' takes the newest complete one")
    if is_first():  # another process would delete the probe as a leftover
        _prepare(folder, checkpoints)
    return checkpoint.newest(checkpoints) if resume == "auto" else Path(resume) if resume else None


def _prepare(folder: Path, checkpoints: Path) -> None:
    """Create `out` and remove partly written checkpoints. Raises UsageError if it cannot be written."""
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        probe = checkpoints / f"{checkpoint.TEMPORARY}probe-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise UsageError(f"{folder}: out cannot be written ({error.strerror}); choose another out") from None
    checkpoint.clean(checkpoints)


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
    directory, averaged = state.out / "model", state.engine.averaged()
    if state.engine.ranks.rank == 0:
        state.method.export(averaged, directory)
        give_starts(directory, state, log)
    return directory


def give_starts(directory: Path, state: TrainState, log: Log) -> None:
    """Write start clips of the training data into an exported world that has none; a failure is only logged."""
    data = state.config.data
    if (directory / START).is_file() or not isinstance(data, OnDisk) or not (directory / CONFIG).is_file():
        return
    if not load_config(directory).clips:
        try:
            write_starts(directory, data.path)
        except VidarError as error:  # the trained weights matter more
            log.event("no start clips", state.counters.step, reason=str(error))
