"""Work of an evaluation in several processes: one thread each, interrupted together, ended with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import torch

from vidar.config import trust, trusted
from vidar.data.cache import chosen, keep_in
from vidar.synth.workers import end_with_parent
from vidar.types import VidarError

Answer = TypeVar("Answer")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    function: Callable[..., Answer],
    items: Sequence[Any],
    workers: int,
    setup: Callable[..., None],
    given: Sequence[Any],
) -> Iterator[tuple[Any, Answer]]:
    """Yield (item, function(item)) as they are finished, in any order.

    Each process calls setup(*given) once. With one worker, or one item, everything runs in this process.

    Raises what `function` raises, and VidarError if a process dies.
    """
    count = min(workers, len(items))
    if count <= 1:
        if items:
            setup(*given)
        yield from ((item, function(item)) for item in items)
        return
    told = trusted(), chosen(), setup, given
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, told) as pool:
        try:
            waiting = {pool.submit(function, item): item for item in items}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenExecutor):
                told = "a process of the evaluation died, perhaps for lack of memory; try --workers 1"
                raise VidarError(told) from None
            raise


def _begin(packages: Sequence[str], cache: Path | None, setup: Callable[..., None], given: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it and ends the processes
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    threading.Thread(target=end_with_parent, args=(_leave,), daemon=True).start()
    for package in packages:
        trust(package)
    keep_in(cache)
    torch.set_num_threads(1)
    setup(*given)


def _leave() -> None:
    """End this process and those that it has started, such as a game: they would go on without it, and its parent would
    wait for them (Linux; elsewhere they end by themselves or not at all).
    """
    for file in Path("/proc/self/task").glob("*/children"):
        for child in file.read_text().split():
            os.kill(int(child), signal.SIGKILL)
    os._exit(1)
