"""The training loop of all methods. It handles batches, losses and time, and does not depend on the kind of model."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vidar.data.atomic import make_folder
from vidar.rng import Rng
from vidar.train.checkpoint import Counters
from vidar.train.clock import Clock, without_compilation
from vidar.train.config import TrainConfig
from vidar.train.engine import Engine
from vidar.train.log import LOG, Log
from vidar.train.progress import LOSS, MINUTES, draw_loss, strip
from vidar.train.ranks import Ranks, anywhere
from vidar.types import Loss, VidarError

ELSEWHERE = "a signal to another process"
COMPILING = "compiling the training step; this happens once, and its time does not count"
MOST_SKIPPED = 10  # non-finite batches in a row before the run stops


class Method(Protocol):
    """A training method."""

    def step(self, model: Any, batch: Any, rngs: Sequence[Rng], ranks: Ranks) -> Loss:
        """The loss on one batch, with one Rng per sample; the engine does backward and the optimiser step.

        Draws for the batch as a whole, such as the number of its forward passes, must agree on all `ranks`.
        """
        ...


@runtime_checkable
class Samples(Protocol):
    """A method that can write samples of its model."""

    def sample(self, model: nn.Module, batch: Any, path: Path) -> None:
        """Write samples to `path`, a name without suffix; the method adds the suffix."""
        ...


class Batches(Protocol):
    """Data as a pure function of the running batch index, so that the position of a run is one integer."""

    def batch(self, index: int) -> Any:
        """A record with `number` (long [B], running sample numbers) and `names`."""
        ...


@runtime_checkable
class Streams(Protocol):
    """Data that prefetches batches."""

    def stream(self, start: int) -> Iterator[Any]:
        """Yield batch(start), batch(start + 1), ... endlessly."""
        ...


@dataclass
class TrainState:
    """What one run holds."""

    config: TrainConfig
    out: Path
    method: Method
    data: Batches
    engine: Engine
    counters: Counters = field(default_factory=Counters)
    checkpoint: Path | None = None

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return self.engine.model

    @property
    def index(self) -> int:
        """The index, among the batches of the run, of the next batch of this process."""
        return self.counters.cursor * self.engine.ranks.world_size + self.engine.ranks.rank

    def progress(self) -> float:
        """The finished share of the run in [0, 1]: of the steps or of the minutes, whichever is larger."""
        config = self.config
        spent = 0.0 if config.minutes is None else self.counters.elapsed / (60.0 * config.minutes)
        return min(1.0, max(self.counters.step / config.optim.steps, spent))

    def save(self, window: Window) -> None:
        """Write a checkpoint."""
        self.counters.window = window.plain()
        self.checkpoint = self.engine.save(self.out / "checkpoints", self.counters)


class Stop:
    """SIGTERM and SIGINT set `signal` and the loop ends after its step; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.signal == name == "SIGINT":
            raise KeyboardInterrupt
        self.signal = name


class Window:
    """The values since the last log line. known: values of steps before a resume."""

    def __init__(self, device: torch.device, clock: Clock, known: Iterable[Mapping[str, float]] = ()) -> None:
        self.values: list[Mapping[str, Tensor]] = [
            {k: torch.tensor(v, device=device) for k, v in step.items()} for step in known
        ]
        self.samples = 0
        self.waited = 0.0
        self.clock, self.started = clock, clock.seconds

    def plain(self) -> list[dict[str, float]]:
        """The values as plain numbers; JSON represents float32 exactly."""
        return [{k: float(v.detach().float()) for k, v in step.items()} for step in self.values]

    def means(self) -> dict[str, float]:
        """Mean of every value over the steps that have it, samples per second, share of time spent on data."""
        keys = {key: None for values in self.values for key in values}
        means = {k: float(torch.stack([v[k].detach().float() for v in self.values if k in v]).mean()) for k in keys}
        seconds = max(self.clock.seconds - self.started, 1e-9)
        return {**means, "samples_per_s": self.samples / seconds, "data_wait": self.waited / seconds}


def train(state: TrainState, log: Log, stop: Stop) -> None:
    """Run until the steps or the minutes are used up, or a signal comes; the last state is saved.

    Compilation and pictures do not count towards the minutes. Raises VidarError after 10 non-finite batches in a row,
    naming their samples.
    """
    config, counters, engine, ranks = state.config, state.counters, state.engine, state.engine.ranks
    state.model.train()
    clock = Clock(counters.elapsed)
    due = [minutes for minutes in MINUTES if 60 * minutes > counters.elapsed]
    saved, window, bad = monotonic(), Window(engine.device, clock, counters.window), []
    shown = state.data.batch(0) if config.sample_every and isinstance(state.method, Samples) else None
    stopped = anywhere(ranks, stop.signal is not None)
    with ExitStack() as stack:
        stream = stack.enter_context(closing(batches(state.data, state.index, ranks.world_size)))
        if config.compile:
            stack.enter_context(without_compilation(clock, lambda: log.say(COMPILING)))
        while state.progress() < 1.0 and not stopped:
            asked = monotonic()
            batch = next(stream)
            window.waited += monotonic() - asked
            lr = config.optim.lr_at(counters.step, state.progress())
            values = train_step(state, batch, lr)
            counters.cursor += 1
            counters.elapsed = ranks.agree(clock.seconds)
            stopped = anywhere(ranks, stop.signal is not None)
            if values is None:
                counters.skipped += 1
                bad.append(list(batch.names))
                refuse(bad, counters.step, log)
                continue
            bad.clear()
            counters.step += 1
            window.values.append(values)
            window.samples += len(batch.number)
            if counters.step % config.log_every == 0 or state.progress() >= 1.0 or stopped:
                logged = {"step": counters.step, "elapsed": counters.elapsed, "lr": lr, "skipped": counters.skipped}
                log.step({**logged, **window.means()}, state.progress())
                if counters.step % config.log_every == 0:
                    window = Window(engine.device, clock)
            if shown is not None and counters.step % config.sample_every == 0:
                show(state, shown)
            if due and counters.elapsed >= 60 * due[0]:
                minutes = due.pop(0)
                with clock.stopped():
                    report(state, shown, log, f"after {minutes:g} minute{'s' * (minutes > 1)}")
            if ranks.agree(monotonic() - saved) >= config.save_every_s:
                state.save(window)
                saved = monotonic()
    if stopped:
        stop.signal = stop.signal or ELSEWHERE
    state.save(window)
    if not stopped:
        report(state, shown, log, "at the end")


def batches(data: Batches, start: int, step: int = 1) -> Generator[Any, None, None]:
    """Yield every `step`-th batch from index `start` on; prefetched if the data supports it and `step` is 1."""
    if isinstance(data, Streams) and step == 1:
        yield from data.stream(start)
    else:
        while True:
            yield data.batch(start)
            start += step


def refuse(bad: list[list[str]], step: int, log: Log) -> None:
    """Log the newest non-finite batch. Raises VidarError after `MOST_SKIPPED` of them in a row."""
    log.event("skipped", step, reason="non-finite loss or gradient", names=bad[-1])
    if len(bad) == MOST_SKIPPED:
        names = ", ".join(dict.fromkeys(name for names in bad for name in names))
        raise VidarError(
            f"{MOST_SKIPPED} non-finite batches in a row at step {step} (samples {names}); "
            "lower optim.lr or check these samples"
        )


def train_step(state: TrainState, batch: Any, lr: float) -> dict[str, Tensor] | None:
    """One step down one loss: the values to log, or None (nothing changed) where something is not finite."""
    engine = state.engine
    engine.seed(state.index)
    rngs = [Rng(state.config.seed, number) for number in batch.number.tolist()]
    with engine.forward():
        loss = state.method.step(engine.model, engine.move(batch), rngs, engine.ranks)
    norm = engine.step(loss.total, lr, state.counters.step)
    return None if norm is None else {"loss": loss.total, "grad_norm": norm, **loss.parts}


def report(state: TrainState, batch: Any, log: Log, when: str) -> None:
    """Draw the loss, write samples where the method can, and say where; a picture that cannot be written is logged.

    batch: the data that the samples are compared with; None: no samples.
    """
    try:
        made = [] if batch is None else [sample for sample in [show(state, batch)] if sample is not None]
        if state.engine.ranks.rank == 0:
            draw_loss(state.out / LOG, state.out / LOSS)
            log.say(f"{when}: {' and '.join(str(file) for file in [*made, state.out / LOSS])}")
    except VidarError as error:
        log.event("no picture", state.counters.step, reason=str(error))


@torch.no_grad()
def show(state: TrainState, batch: Any) -> Path | None:
    """Let the method write samples of the averaged model to out/samples/step-N, on rank 0; returns their picture."""
    assert isinstance(state.method, Samples)
    folder, engine, averaged = state.out / "samples", state.engine, state.engine.averaged()
    if engine.ranks.rank != 0:
        return None
    make_folder(folder)
    path = folder / f"step-{state.counters.step:08d}"
    with engine.forward():
        state.method.sample(averaged, engine.move(batch), path)
    video, picture = path.with_suffix(".mp4"), path.with_suffix(".png")
    if video.is_file():
        strip(video, picture)
    return picture if picture.is_file() else None
