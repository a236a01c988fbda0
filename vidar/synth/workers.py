"""Local workers: processes with one thread and the world loaded once, each behind a pipe."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from vidar.config import trust, trusted
from vidar.data.cache import chosen, keep_in
from vidar.model.fingerprint import fingerprint
from vidar.model.load import load
from vidar.synth.placement import POLL, Event, Lost, Ready, Work
from vidar.synth.planning import Planned, worker_for
from vidar.synth.segments import SegmentResult
from vidar.types import VidarError

MOST_STARTS = 3  # workers that may be lost in a row before one is ready


@dataclass(frozen=True)
class Free:
    """Sent by a worker: the batch is finished."""


@dataclass(frozen=True)
class Failed:
    """Sent by a worker: it cannot continue."""

    reason: str


@dataclass
class Worker:
    """A process, our end of its pipe, and the tasks of its batch that have no result."""

    process: BaseProcess
    pipe: Connection
    tasks: list[Work] = field(default_factory=list[Work])
    ready: bool = False
    busy: bool = False
    reason: str = ""


class LocalWorkers:
    """A `Placement` on this machine. memory: False: the world runs without its memory."""

    def __init__(self, count: int, model: str, device: str, rows: int, memory: bool = True) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._told = model, device, rows, trusted(), chosen(), memory
        self._starts = 0
        self._workers = [self._start() for _ in range(count)]

    @property
    def free(self) -> list[int]:
        """See `Placement.free`."""
        return [number for number, worker in enumerate(self._workers) if worker.ready and not worker.busy]

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def submit(self, worker: int, tasks: Sequence[Work]) -> None:
        """See `Placement.submit`."""
        one = self._workers[worker]
        one.tasks, one.busy = list(tasks), True
        with suppress(OSError):  # the worker has died; `wait` will report it
            one.pipe.send(one.tasks)

    def wait(self) -> list[Event]:
        """See `Placement.wait`."""
        events: list[Event] = []
        by_pipe: dict[object, Worker] = {worker.pipe: worker for worker in self._workers}
        for pipe in wait([worker.pipe for worker in self._workers], POLL):
            event = self._receive(by_pipe[pipe])
            if event is not None:
                events.append(event)
        return events

    def stop(self, worker: int, reason: str) -> None:
        """See `Placement.stop`. SIGKILL also ends a suspended process."""
        self._workers[worker].reason = reason
        self._workers[worker].process.kill()

    def close(self) -> None:
        """See `Placement.close`."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, *self._told), daemon=True, name="vidar-synth")
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return Worker(process, ours)

    def _receive(self, worker: Worker) -> Event | None:
        try:
            message: Any = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        if isinstance(message, Ready):
            worker.ready, self._starts = True, 0
        elif isinstance(message, SegmentResult | Planned):
            worker.tasks = [task for task in worker.tasks if task.item != message.item]
        elif isinstance(message, Failed):
            if not worker.ready:
                raise VidarError(f"workers cannot load the world: {message.reason}")
            worker.reason = message.reason
            return None
        else:
            worker.busy = False
            return None
        return message

    def _replace(self, worker: Worker) -> Lost:
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        reason = worker.reason or (f"killed by signal {-code}" if code < 0 else f"ended with code {code}")
        if not worker.ready:
            self._starts += 1
            if self._starts >= MOST_STARTS:
                raise VidarError(f"workers cannot load the world: {reason}; out of memory?")
        self._workers[self._workers.index(worker)] = self._start()
        return Lost(tuple(worker.tasks), reason)


def work(
    pipe: Connection,
    model: str,
    device: str,
    rows: int,
    packages: Iterable[str] = (),
    cache: Path | None = None,
    memory: bool = True,
) -> None:
    """The main function of a worker process. It ends when its pipe closes or its parent ends.

    packages: see `trust`. cache: see `keep_in`. memory: see `load`.
    """
    for package in packages:
        trust(package)
    keep_in(cache)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver receives it and ends the workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        world = load(model, device, memory=memory)
        segment_worker = worker_for(world, rows)
        pipe.send(Ready(fingerprint(world), str(next(world.net.parameters()).dtype).removeprefix("torch.")))
        while True:
            for made in segment_worker.make(pipe.recv()):
                pipe.send(made)
            pipe.send(Free())
    except (EOFError, OSError):
        return  # the driver has ended
    except Exception as error:  # of any kind; the driver reports it in one line and tries another worker
        with suppress(OSError):
            pipe.send(Failed(reason(error)))


def reason(error: Exception) -> str:
    """An exception of a worker as one line."""
    lines = str(error).splitlines() or [""]
    return lines[0] if isinstance(error, VidarError) else f"{type(error).__name__}: {lines[0]}"


def end_with_parent(leave: Callable[[], None] = lambda: os._exit(1)) -> None:
    """Wait for the end of the parent process, then end this one with `leave`. For a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        leave()
