"""The curves of a run for TensorBoard, where it is installed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidar.data.atomic import make_folder, writing


class NoBoard:
    """Writes nothing, because TensorBoard is not installed."""

    def add(self, record: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Board:
    """Writes an event file at once. The writer of TensorBoard has a thread, which prints a traceback on a full disk."""

    def __init__(self, folder: Path, step: int) -> None:
        """Hide what a killed run wrote after `step`. Raises VidarError if the file cannot be written."""
        from tensorboard.compat.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter

        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{step}"
        self.path = make_folder(folder) / name
        with writing(self.path):
            self._records: Any = RecordWriter(self.path.open("wb"))
        self._write(file_version="brain.Event:2")
        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, record: Mapping[str, float], step: int) -> None:
        """Add a value to the curve of each name. Raises VidarError if it cannot be written."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        values = [Summary.Value(tag=name, simple_value=value) for name, value in record.items()]
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        """Close the file."""
        with writing(self.path):
            self._records.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        with writing(self.path):
            self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
            self._records.flush()


def open_board(folder: Path, step: int) -> Board | NoBoard:
    """The curves in `folder`, from `step` on."""
    return NoBoard() if find_spec("tensorboard") is None else Board(folder, step)
