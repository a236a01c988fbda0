"""The decorator that marks a function of this package as a recipe, and its status; figures are in results/NAME.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

Status = Literal["trainable", "measured", "shipped"]
STATUSES = {
    "trainable": "can be trained; nothing was measured yet",
    "measured": "its results are in `results/`",
    "shipped": "measured, and the weights come with the package",
}
Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")
MARK = "recipe_status"


def recipe(*, status: Status) -> Callable[[Callable[Arguments, Made]], Callable[Arguments, Made]]:
    """Mark a public function that has a `preset` as a recipe.

    `catalog.recipes` finds it in any module of this package.
    """

    def mark(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
        vars(make)[MARK] = status
        return make

    return mark


def status_of(make: Any) -> Status | None:
    """The status of a recipe; None for other functions."""
    return vars(make).get(MARK)
