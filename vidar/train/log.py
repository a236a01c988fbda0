"""The log of a run: log.jsonl always, TensorBoard where installed, a progress line on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from vidar.data.atomic import check_output, replacing, writing
from vidar.train.board import open_board

LOG = "log.jsonl"  # in the folder of a run


class Log(Protocol):
    """The log that the training loop writes to."""

    def step(self, record: Mapping[str, float], progress: float) -> None:
        """Log the numbers of a step; the remaining time is estimated from `progress` in [0, 1]."""
        ...

    def event(self, event: str, step: int, **details: Any) -> None:
        """Log an event: a skipped batch, a checkpoint, the end of the run."""
        ...

    def say(self, line: str) -> None:
        """Print a line for the person at the terminal, which is not stored."""
        ...

    def close(self) -> None:
        """Flush and close all writers."""
        ...


class NoLog:
    """A log that writes nothing, for the processes other than rank 0."""

    def step(self, record: Mapping[str, float], progress: float) -> None:
        """Do nothing."""

    def event(self, event: str, step: int, **details: Any) -> None:
        """Do nothing."""

    def say(self, line: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class RunLog:
    """Appends to `out/log.jsonl`: one object per log step, and one per event (with the key `event`).

    Lines after `step`, which a killed run wrote after its last checkpoint, are removed first.
    """

    def __init__(self, out: Path, name: str, step: int) -> None:
        self.path = out / LOG
        check_output(self.path)
        with writing(self.path):
            if self.path.exists():
                _truncate(self.path, step)
            self._file = self.path.open("a", buffering=1)
        self._board = open_board(out / "tensorboard", step)
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        if self._console.is_terminal:
            columns = (TextColumn(name), BarColumn(), TextColumn("{task.fields[line]}"))
            self._progress = Progress(*columns, console=self._console, refresh_per_second=4, transient=True)
            self._progress.add_task(name, total=1.0, line="")
            self._progress.start()

    def step(self, record: Mapping[str, float], progress: float) -> None:
        """See `Log`."""
        self._write(record)
        self._board.add(record, int(record["step"]))
        line = _line(record, progress)
        if self._progress is None:
            self._console.print(line, markup=False)
        else:
            self._progress.update(self._progress.task_ids[0], completed=progress, line=line)

    def event(self, event: str, step: int, **details: Any) -> None:
        """See `Log`."""
        self._write({"event": event, "step": step, **details})
        shown = " ".join(f"{key}={value}" for key, value in details.items())
        self._console.print(f"step {step}: {event} {shown}", markup=False)

    def say(self, line: str) -> None:
        """See `Log`."""
        self._console.print(line, markup=False)

    def close(self) -> None:
        """See `Log`."""
        if self._progress is not None:
            self._progress.stop()
        self._board.close()
        with writing(self.path):
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        with writing(self.path):
            self._file.write(json.dumps(plain) + "\n")


def read_log(file: Path) -> list[dict[str, Any]]:
    """The records of a log; lines that are not whole, such as the last one of a killed run, are left out."""
    records = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _truncate(file: Path, step: int) -> None:
    kept = [record for record in read_log(file) if record["step"] <= step]
    with replacing(file) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))


def _line(record: Mapping[str, float], progress: float) -> str:
    left = record["elapsed"] * (1.0 - progress) / max(progress, 1e-9)
    return (
        f"step {record['step']} loss {record['loss']:.4g} lr {record['lr']:.3g} |g| {record['grad_norm']:.3g} "
        f"{record['samples_per_s']:.1f} samples/s, {_clock(left)} left"
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
