"""The clock of a run: the seconds that count towards `minutes`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic


class Clock:
    """Seconds of training: those of earlier parts of the run, and the time since, without what was skipped."""

    def __init__(self, elapsed: float = 0.0) -> None:
        self._start = monotonic() - elapsed

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return monotonic() - self._start

    def skip(self, seconds: float) -> None:
        """Do not count these seconds."""
        self._start += seconds

    @contextmanager
    def stopped(self) -> Generator[None]:
        """Do not count the time that the block takes."""
        began = monotonic()
        try:
            yield
        finally:
            self.skip(monotonic() - began)


@contextmanager
def without_compilation(clock: Clock, announce: Callable[[], None]) -> Generator[None]:
    """Stop the clock whenever torch compiles, until the block ends; `announce` is called before the first time.

    A step is compiled in several parts, whenever one is first needed: the forward pass, the backward pass, and passes
    without gradients.
    """
    from torch._dynamo.callback import callback_handler

    began, announced = list[float](), list[bool]()

    def start(*_: object) -> None:
        if not announced:
            announced.append(True)
            announce()
        began.append(monotonic())

    def end(*_: object) -> None:
        first = began.pop()
        if not began:  # compilations nest
            clock.skip(monotonic() - first)

    callback_handler.register_start_callback(start)
    callback_handler.register_end_callback(end)
    try:
        yield
    finally:
        callback_handler.remove_start_callback(start)
        callback_handler.remove_end_callback(end)
