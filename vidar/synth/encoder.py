"""A thread that writes items in the order in which they are put; `put` waits while too many are queued."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
PATIENCE = 0.2  # seconds between two checks that the thread is alive


class Encoder(Generic[Item]):
    """Calls `write(item)` for every item in a thread of its own. At most `room` items are queued."""

    def __init__(self, write: Callable[[Item], None], room: int) -> None:
        self._write = write
        self._queue: queue.Queue[Item | None] = queue.Queue(max(1, room))
        self._error: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._run, name="vidar-encoder", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue an item; waits while the queue is full. Raises what `write` raised earlier."""
        self._put(item)

    def close(self) -> None:
        """Wait until all items are written. Raises what `write` raised."""
        if self._thread.is_alive():
            self._put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Stop after the current item, and drop the queued ones."""
        self._dropped = True
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put_nowait(None)
            self._thread.join()

    def _put(self, item: Item | None) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                return self._queue.put(item, timeout=PATIENCE)
            except queue.Full:
                continue

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._dropped:
            try:
                self._write(item)
            except BaseException as error:
                self._error = error
                return
