"""Check that a checkpoint belongs to this run: its config is compared with the new one before anything is built."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidar.config import Config, current_type, to_dict
from vidar.train.checkpoint import read_state
from vidar.types import UsageError

# Keys that may change on resume. Choice: the length of the run, its output and its speed, because the weights remain
# those of one experiment. Seeds, data, batch, network, losses, precision and learning rate define the experiment.
HARMLESS = frozenset(
    (
        "name",
        "out",
        "minutes",
        "optim.steps",
        "compile",
        "check_memory",
        "data.prefetch",
        "data.cache_bytes",
        "data.cache",
    )
    + ("log_every", "save_every_s", "sample_every", "keep_checkpoints")
)
ABSENT = "absent"


def check_same(checkpoint: Path, config: Config) -> None:
    """Raises UsageError naming the first key, in the order of the config, whose value differs in the checkpoint.

    Raises VidarError for a damaged checkpoint.
    """
    for key, old, new in differences(read_state(checkpoint).get("config"), config):
        if key not in HARMLESS:
            raise UsageError(
                f"{checkpoint}: {key} was {_short(old)}, now it is {_short(new)}; resume with the old value, or start "
                "another run with --out"
            )


def differences(stored: Any, config: Config, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, stored value, new value) of all differences. A field newer than the checkpoint has its default."""
    now = json.loads(json.dumps(to_dict(config)))
    if not isinstance(stored, Mapping) or current_type(str(stored.get("type"))) != now["type"]:
        yield at.rstrip(".") or "type", stored, now
        return
    for name, field in type(config).model_fields.items():
        new = getattr(config, name)
        if name in stored:
            old = stored[name]
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            old = ABSENT if field.is_required() else json.loads(json.dumps(to_dict(default)))
        if isinstance(new, Config) and isinstance(old, Mapping):
            yield from differences(old, new, f"{at}{name}.")
        elif old != now[name]:
            yield f"{at}{name}", old, now[name]
    yield from ((f"{at}{name}", stored[name], ABSENT) for name in sorted(stored.keys() - now.keys()))


def _short(value: Any) -> str:
    text = str(value["type"]).rpartition(".")[2] if isinstance(value, Mapping) and "type" in value else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
