"""What makes a function of this package a recipe, and what stands beside it; its figures are results/NAME.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

Status = Literal["trainable", "measured", "shipped"]
STATUSES = {
    "trainable": "runs, nothing measured yet",
    "measured": "its figures are in `results/`",
    "shipped": "measured, and weights come with the package",
}
Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")
MARK = "recipe_status"


def recipe(*, status: Status) -> Callable[[Callable[Arguments, Made]], Callable[Arguments, Made]]:
    """Mark a public function with a `preset` as a recipe: `catalog.recipes` finds it in any module of this package."""

    def mark(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
        vars(make)[MARK] = status
        return make

    return mark


def status_of(make: Any) -> Status | None:
    """The status of a recipe; None: it is none."""
    return vars(make).get(MARK)
