"""Workers on a Ray cluster: actors of one CPU and one thread that hold the world. Only the driver writes files.

A batch is one call that begins it and one call per segment, all sent at once: a segment arrives as soon as it is made,
and at most a batch of them waits for the driver.
"""

from __future__ import annotations

import copy
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import vidar
from vidar.config import trust, trusted
from vidar.model.fingerprint import fingerprint
from vidar.model.load import SHIPPED, load
from vidar.synth.placement import POLL, Event, Lost, Placement, Ready, Work
from vidar.synth.planning import Planned, worker_for
from vidar.synth.segments import SegmentResult
from vidar.synth.workers import MOST_STARTS, reason
from vidar.types import UsageError, VidarError

LOCAL = "local"  # the address of a cluster on this machine, which is started and stopped by its user
PATIENCE = 10.0  # seconds to wait until an address answers; Ray itself tries for minutes


def on_ray(address: str) -> Callable[..., Placement]:
    """`RayWorkers` at an address. Raises UsageError if the extra is not installed."""
    _ray()
    return partial(RayWorkers, address=address)


class Actor:
    """A worker on its node. Call `load` once, then for every batch `begin` once and `make` once per task."""

    def load(self, model: str, device: str, rows: int, packages: Sequence[str], memory: bool = True) -> Ready:
        """Load a world from a folder of this node, or a shipped one by name. packages: see `vidar.config.trust`."""
        torch.set_num_threads(1)
        for package in packages:
            trust(package)
        world = load(model, device, memory=memory)
        self.segment_worker = worker_for(world, rows)
        self.segments: Iterator[SegmentResult | Planned] = iter(())
        return Ready(fingerprint(world), str(next(world.net.parameters()).dtype).removeprefix("torch."))

    def begin(self, tasks: Sequence[Work]) -> None:
        """Begin a batch."""
        self.segments = self.segment_worker.make(copy.deepcopy(tasks))  # arrays from Ray are read-only

    def make(self) -> SegmentResult | Planned:
        """Make the next segment of the batch that becomes ready."""
        return next(self.segments)


@dataclass
class Worker:
    """An actor, its pending results in order, and the tasks of its batch that have no result."""

    actor: Any
    results: list[Any]
    tasks: list[Work] = field(default_factory=list[Work])
    ready: bool = False
    reason: str = ""


class RayWorkers:
    """A `Placement` on a cluster. address: of its head, ray://HOST:PORT, `auto`: the one of this machine, or `local`.

    memory: False: the world runs without its memory. A worker waits until the cluster has a free CPU for it. On CUDA
    each has a GPU, which Ray chooses. A model's folder must have the same path on every node, and trusted packages must
    be installed on each. If the caller is already connected to a cluster, that one is used and stays connected.
    """

    def __init__(
        self, count: int, model: str, device: str, rows: int, address: str = "auto", memory: bool = True
    ) -> None:
        self._ray = _ray()
        folder = Path(model).resolve()
        name = folder.name if folder.parent == SHIPPED.resolve() else str(folder)
        kind = device.partition(":")[0]
        self._needs = {"num_cpus": 1, "num_gpus": int(kind == "cuda")}
        self._told = name, kind, rows, trusted(), memory
        self._starts = 0
        self._connected = not self._ray.is_initialized()
        if self._connected:
            _connect(self._ray, address, count)
        if self._needs["num_gpus"] and not self._ray.cluster_resources().get("GPU"):
            raise VidarError(f"--device {device}: no node of the cluster at {address} has a GPU")
        self._workers = [self._start() for _ in range(count)]

    @property
    def free(self) -> list[int]:
        """See `Placement.free`."""
        return [number for number, worker in enumerate(self._workers) if worker.ready and not worker.results]

    @property
    def actors(self) -> list[Any]:
        """Ray's handles to the workers."""
        return [worker.actor for worker in self._workers]

    def submit(self, worker: int, tasks: Sequence[Work]) -> None:
        """See `Placement.submit`."""
        one = self._workers[worker]
        one.tasks = list(tasks)
        one.actor.begin.remote(one.tasks)
        one.results = [one.actor.make.remote() for _ in one.tasks]

    def wait(self) -> list[Event]:
        """See `Placement.wait`."""
        by_result = {worker.results[0]: worker for worker in self._workers if worker.results}
        self._ray.wait(list(by_result), timeout=POLL)
        come, _ = self._ray.wait(list(by_result), num_returns=len(by_result), timeout=0)
        return [self._receive(by_result[result]) for result in come]

    def stop(self, worker: int, reason: str) -> None:
        """See `Placement.stop`. Ray also ends a suspended process, after some seconds."""
        self._workers[worker].reason = reason
        self._end(self._workers[worker])

    def close(self) -> None:
        """See `Placement.close`."""
        for worker in self._workers:
            self._end(worker)
        if self._connected:
            self._ray.shutdown()

    def _start(self) -> Worker:
        actor = self._ray.remote(**self._needs, max_restarts=0)(Actor).remote()
        return Worker(actor, [actor.load.remote(*self._told)])

    def _end(self, worker: Worker) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)

    def _receive(self, worker: Worker) -> Event:
        try:
            got = self._ray.get(worker.results[0])
            event: Ready | SegmentResult | Planned = copy.deepcopy(got)  # so that Ray's own memory is freed at once
        except self._ray.exceptions.RayError as error:
            return self._replace(worker, error)
        del worker.results[0]
        if isinstance(event, Ready):
            worker.ready, self._starts = True, 0
        else:
            worker.tasks = [task for task in worker.tasks if task.item != event.item]
        return event

    def _replace(self, worker: Worker, error: Exception) -> Lost:
        """Start a new actor in the place of one that raised, or that was lost with its node or its result."""
        raised = isinstance(error, self._ray.exceptions.RayTaskError)
        why = worker.reason or reason(getattr(error, "cause", error) if raised else error)
        if not worker.ready:
            self._starts += 1
            if raised or self._starts >= MOST_STARTS:
                raise VidarError(f"workers cannot load the world: {why}{'' if raised else '; out of memory?'}")
        self._end(worker)
        self._workers[self._workers.index(worker)] = self._start()
        return Lost(tuple(worker.tasks), why)


def _connect(ray: Any, address: str, count: int) -> None:
    options = {"num_cpus": count, "include_dashboard": False} if address == LOCAL else {}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:  # on a busy machine Ray also raises plain exceptions, if it starts too slowly
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise VidarError(f"--ray {address}: cannot connect to a cluster ({line})") from None


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError:
        raise UsageError(f"--ray needs the package ray: pip install '{vidar.DISTRIBUTION}[ray]'") from None
    return ray
