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
MARK, THEN = "recipe_status", "recipe_then"


def recipe(*, status: Status, then: str = "") -> Callable[[Callable[Arguments, Made]], Callable[Arguments, Made]]:
    """Mark a public function that has a `preset` as a recipe.

    `catalog.recipes` finds it in any module of this package. then: the command that uses the trained model, in which
    MODEL stands for its folder; "": `configs.next_command` finds it.
    """

    def mark(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
        vars(make)[MARK], vars(make)[THEN] = status, then
        return make

    return mark


def status_of(make: Any) -> Status | None:
    """The status of a recipe; None for other functions."""
    return vars(make).get(MARK)


def then_of(make: Any) -> str:
    """The command that uses the trained model of a recipe, see `recipe`; "" for other functions."""
    return vars(make).get(THEN, "")
