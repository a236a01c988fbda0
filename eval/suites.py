"""The suites of `vidar eval`: a table from a name to the module whose `run(model, out, ...)` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vidar.config import unknown_key
from vidar.types import UsageError


@dataclass(frozen=True)
class Suite:
    """module: has `run(model, out, ...)`, which writes report.html and report.json and returns what the latter holds.

    options: option of the command line -> argument of `run`.
    """

    module: str
    options: Mapping[str, str]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


SUITES: Mapping[str, Suite] = {
    "world": Suite(
        "vidar.eval.world_suite", _same("data", "split", "episodes", "frames", "seed", "steps", "idm", "device")
    ),
    "endless": Suite("vidar.eval.endless", {"episodes": "rollouts", **_same("frames", "seed", "idm", "device")}),
}


def run_suite(name: str, model: str, out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run a suite with the given options. Raises UsageError for an unknown suite or an option that it lacks."""
    if name not in SUITES:
        raise UsageError(unknown_key(name, SUITES, "--suite"))
    suite = SUITES[name]
    for option in options:
        if option not in suite.options:
            raise UsageError(unknown_key(f"--{option}", [f"--{known}" for known in suite.options], f"suite {name!r}"))
    given = {suite.options[option]: value for option, value in options.items()}
    return import_module(suite.module).run(model, out, **given)
