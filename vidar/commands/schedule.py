"""The schedules that a command knows by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidar.config import parse_value
from vidar.types import UsageError

if TYPE_CHECKING:
    from vidar.world.scheduled import ScheduleConfig


def read_schedule(text: str) -> ScheduleConfig:
    """`name` or `name:field=value,field=value` -> its config. Raises UsageError naming what is unknown."""
    from vidar.world import scheduled

    known: dict[str, type[ScheduleConfig]] = {
        "one": scheduled.OneByOneConfig,
        "chunks": scheduled.ChunksConfig,
        "pyramid": scheduled.PyramidConfig,
        "pipeline": scheduled.PipelineConfig,
        "asynchronous": scheduled.AsynchronousConfig,
        "rolling": scheduled.RollingConfig,
    }
    name, _, rest = text.partition(":")
    if name not in known:
        raise UsageError(f"--schedule {name!r} is unknown; valid: {', '.join(known)}")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    for field, equals, _ in pairs:
        if not equals:
            raise UsageError(f"--schedule {text!r}: {field!r} is not field=value, as in pyramid:delay=2")
    return known[name](**{field: parse_value(value) for field, _, value in pairs})
