"""The training loop: one for every method. It knows batches, losses and time; it does not know what a model is."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vidar.nn.precision import fast_dtype
from vidar.rng import Rng
from vidar.train import checkpoint
from vidar.train.checkpoint import Counters
from vidar.train.config import TrainConfig
from vidar.train.ema import Ema
from vidar.train.log import RunLog
from vidar.types import Loss, VidarError

MOST_SKIPPED = 10  # non-finite batches in a row before the run stops


class Method(Protocol):
    """A training method."""

    def step(self, model: Any, batch: Any, rngs: Sequence[Rng]) -> Loss:
        """One loss on one batch, one Rng per sample; the loop owns backward and the optimiser."""
        ...


@runtime_checkable
class Samples(Protocol):
    """A method that can show what its model does."""

    def sample(self, model: nn.Module, batch: Any, path: Path) -> None:
        """Write samples to `path`, a name without suffix; the method adds its own."""
        ...


class Batches(Protocol):
    """Data: a pure function of the running batch index, so that the place in it is one integer."""

    def batch(self, index: int) -> Any:
        """A record with `number` (long [B], running sample numbers) and `names`."""
        ...


@runtime_checkable
class Streams(Protocol):
    """Data that prepares batches ahead."""

    def stream(self, start: int) -> Iterator[Any]:
        """batch(start), batch(start + 1), ... without end."""
        ...


@runtime_checkable
class Counts(Protocol):
    """A module that counts what it sees within a step: a codebook its hits, an adversary its scores.

    Choice: found in the model, whatever the method; a method that trains such a module cannot forget to tell it.
    """

    def update(self) -> None:
        """Take in what was counted, once per optimiser step."""
        ...

    def forget(self) -> None:
        """Drop what was counted: the step was not made."""
        ...


@dataclass
class Job:
    """What one run holds."""

    config: TrainConfig
    out: Path
    device: torch.device
    method: Method
    data: Batches
    model: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer
    counters: Counters = field(default_factory=Counters)
    checkpoint: Path | None = None

    @cached_property
    def counting(self) -> list[Counts]:
        """The modules of the model that count."""
        return [module for module in self.model.modules() if isinstance(module, Counts)]

    def progress(self) -> float:
        """The share of the run that is over, in [0, 1]: of the steps or of the minutes, whichever is larger."""
        config = self.config
        spent = 0.0 if config.minutes is None else self.counters.elapsed / (60.0 * config.minutes)
        return min(1.0, max(self.counters.step / config.optim.steps, spent))

    def save(self, window: Window) -> None:
        """Write a checkpoint and drop the oldest."""
        folder = self.out / "checkpoints"
        self.counters.window = window.plain()
        self.checkpoint = checkpoint.save(folder, self.counters, self.model, self.ema, self.optimizer, self.config)
        checkpoint.retain(folder, self.config.keep_checkpoints)


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
    """What happened since the last log line. known: the values of steps before a resume."""

    def __init__(self, device: torch.device, known: Iterable[Mapping[str, float]] = ()) -> None:
        self.values: list[Mapping[str, Tensor]] = [
            {k: torch.tensor(v, device=device) for k, v in step.items()} for step in known
        ]
        self.samples = 0
        self.waited = 0.0
        self.started = monotonic()

    def plain(self) -> list[dict[str, float]]:
        """The values as numbers: exact, float32 fits into JSON."""
        return [{k: float(v.detach().float()) for k, v in step.items()} for step in self.values]

    def means(self) -> dict[str, float]:
        """Mean of every value over the steps that have it, samples per second, share of time spent on data."""
        keys = {key: None for values in self.values for key in values}
        means = {k: float(torch.stack([v[k].detach().float() for v in self.values if k in v]).mean()) for k in keys}
        seconds = max(monotonic() - self.started, 1e-9)
        return {**means, "samples_per_s": self.samples / seconds, "data_wait": self.waited / seconds}


def train(job: Job, log: RunLog, stop: Stop) -> None:
    """Run until the steps or the minutes are used up, or a signal comes; the last state is saved.

    Raises VidarError after 10 non-finite batches in a row, naming their samples.
    """
    config, counters = job.config, job.counters
    job.model.train()
    start = monotonic() - counters.elapsed
    saved, window, bad = monotonic(), Window(job.device, counters.window), []
    shown = job.data.batch(0) if config.sample_every and isinstance(job.method, Samples) else None
    with closing(batches(job.data, counters.cursor)) as stream:
        while job.progress() < 1.0 and stop.signal is None:
            asked = monotonic()
            batch = next(stream)
            window.waited += monotonic() - asked
            lr = config.optim.lr_at(counters.step, job.progress())
            values = update(job, batch, lr)
            counters.cursor += 1
            counters.elapsed = monotonic() - start
            if values is None:
                counters.skipped += 1
                bad.append(list(batch.names))
                refuse(bad, counters.step, log)
                continue
            bad.clear()
            counters.step += 1
            window.values.append(values)
            window.samples += len(batch.number)
            if counters.step % config.log_every == 0 or job.progress() >= 1.0 or stop.signal:
                state = {"step": counters.step, "elapsed": counters.elapsed, "lr": lr, "skipped": counters.skipped}
                log.step({**state, **window.means()}, job.progress())
                if counters.step % config.log_every == 0:
                    window = Window(job.device)
            if shown is not None and counters.step % config.sample_every == 0:
                show(job, shown)
            if monotonic() - saved >= config.save_every_s:
                job.save(window)
                saved = monotonic()
    job.save(window)


def batches(data: Streams | Batches, start: int) -> Generator[Any, None, None]:
    """The batches from number `start` on: prepared ahead where the data can, else one by one."""
    if isinstance(data, Streams):
        yield from data.stream(start)
    else:
        while True:
            yield data.batch(start)
            start += 1


def refuse(bad: list[list[str]], step: int, log: RunLog) -> None:
    """Note the newest of the non-finite batches in a row; too many are the end of the run."""
    log.event("skipped", step, reason="non-finite loss or gradient", names=bad[-1])
    if len(bad) == MOST_SKIPPED:
        names = ", ".join(dict.fromkeys(name for names in bad for name in names))
        raise VidarError(
            f"{MOST_SKIPPED} non-finite batches in a row at step {step} (samples {names}); "
            "lower optim.lr or check these samples"
        )


def update(job: Job, batch: Any, lr: float) -> dict[str, Tensor] | None:
    """One optimiser step and EMA step: the values to log, or None (nothing changed) where something is not finite."""
    config = job.config
    reseed(config.seed, job.counters.cursor, job.device)
    rngs = [Rng(config.seed, number) for number in batch.number.tolist()]
    with autocast(job):
        loss = job.method.step(job.model, to_device(batch, job.device), rngs)
    if not math.isfinite(loss.total.item()):
        settle(job, False)
        return None
    loss.total.backward()
    trained = [p for group in job.optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in trained])
    length = norm.item()
    finite = math.isfinite(length)
    if finite:
        if length > config.optim.clip:
            nn.utils.clip_grads_with_norm_(trained, config.optim.clip, norm)
        for group in job.optimizer.param_groups:
            group["lr"] = lr
        job.optimizer.step()
    settle(job, finite)
    if finite:
        job.ema.update(job.counters.step)
    job.optimizer.zero_grad(set_to_none=True)
    return {"loss": loss.total, "grad_norm": norm, **loss.parts} if finite else None


def settle(job: Job, made: bool) -> None:
    """Tell the modules that count whether the step was made."""
    for module in job.counting:
        if made:
            module.update()
        else:
            module.forget()


@torch.no_grad()
def show(job: Job, batch: Any) -> None:
    """Let the method write samples of the averaged model to out/samples/step-N."""
    assert isinstance(job.method, Samples)
    folder = job.out / "samples"
    folder.mkdir(exist_ok=True)
    with autocast(job):
        job.method.sample(job.ema.model, to_device(batch, job.device), folder / f"step-{job.counters.step:08d}")


def autocast(job: Job) -> torch.autocast:
    """bf16 where the config says so, or the device is fast at it."""
    auto, precision = fast_dtype(job.device.type) == torch.bfloat16, job.config.precision
    return torch.autocast(job.device.type, torch.bfloat16, enabled=auto if precision == "auto" else precision == "bf16")


def reseed(seed: int, cursor: int, device: torch.device) -> None:
    """Seed torch from (seed, batch index), so that dropout and the like survive a resume, as EDM2's loop does.

    The generators are set directly: torch.manual_seed visits every device type, 0.2 ms per step.
    """
    word = int(Rng(seed, cursor).raw("torch", 0, 0, 1)[0] >> 1)
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        torch.cuda.manual_seed(word)


def to_device(batch: Any, device: torch.device) -> Any:
    """The record with its tensors on `device`."""
    moved = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved = {name: value.to(device, non_blocking=True) for name, value in moved.items() if isinstance(value, Tensor)}
    return replace(batch, **moved)
