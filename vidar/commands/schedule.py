"""Schedules by the names that `--schedule` accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidar.config import parse_value
from vidar.types import UsageError

if TYPE_CHECKING:
    from vidar.model.schedules import ScheduleConfig


def read_schedule(text: str) -> ScheduleConfig:
    """`name` or `name:field=value,field=value` -> its config. Raises UsageError naming what is unknown."""
    from vidar.model import schedules

    known: dict[str, type[ScheduleConfig]] = {
        "one": schedules.OneByOneConfig,
        "chunks": schedules.ChunksConfig,
        "pyramid": schedules.PyramidConfig,
        "pipeline": schedules.PipelineConfig,
        "asynchronous": schedules.AsynchronousConfig,
        "rolling": schedules.RollingConfig,
    }
    name, _, rest = text.partition(":")
    if name not in known:
        raise UsageError(f"--schedule {name!r} is unknown; valid: {', '.join(known)}")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    for field, equals, _ in pairs:
        if not equals:
            raise UsageError(f"--schedule {text!r}: {field!r} is not field=value, as in pyramid:delay=2")
    return known[name](**{field: parse_value(value) for field, _, value in pairs})
