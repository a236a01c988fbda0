"""The suites of `vidar eval`: a table from names to the modules whose `run(model, out, ...)` implements them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vidar.config import unknown_key
from vidar.eval.provenance import option_words, shown
from vidar.eval.record import Found, check_record, of_endless, of_outcome, of_ruler, of_world, record
from vidar.types import UsageError


@dataclass(frozen=True)
class Suite:
    """module: has `run(model, out, ...)`, which writes report.html and report.json and returns the latter's content.

    options: option of the command line -> argument of `run`. found: extracts the figures of its report.
    """

    module: str
    options: Mapping[str, str]
    found: Callable[[Mapping[str, Any]], Found]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


MEMORY = {"no-memory": "no_memory"}
RULER = {"episodes": "starts", **MEMORY, **_same("frames", "seed", "steps", "device", "game", "against", "workers")}
SUITES: Mapping[str, Suite] = {
    "world": Suite(
        "vidar.eval.world_suite",
        {**_same("data", "split", "episodes", "frames", "seed", "steps", "idm", "device"), **MEMORY},
        of_world,
    ),
    "endless": Suite(
        "vidar.eval.endless", {"episodes": "rollouts", **_same("frames", "seed", "idm", "device"), **MEMORY}, of_endless
    ),
    "ruler": Suite("vidar.eval.ruler", RULER, of_ruler),
    "quick": Suite("vidar.eval.quick", RULER, of_ruler),
    "outcome": Suite("vidar.eval.outcome_suite", _same("data", "split", "seed", "device"), of_outcome),
}


def run_suite(
    name: str, model: str, out: Path, options: Mapping[str, Any], recipe: str | None = None
) -> dict[str, Any]:
    """Run a suite with the given options. recipe: the recipe of these weights, beside which the figures are stored.

    Raises UsageError for an unknown suite or recipe, or for an option that the suite does not have.
    """
    if name not in SUITES:
        raise UsageError(unknown_key(name, SUITES, "--suite"))
    suite = SUITES[name]
    check_record(recipe)
    for option in options:
        if option not in suite.options:
            raise UsageError(unknown_key(f"--{option}", [f"--{known}" for known in suite.options], f"suite {name!r}"))
    given = {suite.options[option]: value for option, value in options.items()}
    report = import_module(suite.module).run(model, out, **given)
    if recipe is not None:
        words = ["vidar", "eval", shown(model), "--suite", name]
        words += [word for option, value in options.items() for word in option_words(option, value)]
        record(recipe, shlex.join(words), suite.found(report), model)
    return report
