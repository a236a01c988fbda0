"""What to do with a trained model: the command that comes after `vidar train`."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path

from vidar.configs.catalog import recipes
from vidar.configs.recipe import then_of
from vidar.model.load import CONFIG, load_config

CARRIED = ("preset", "data")  # arguments that the next recipe must share


def next_command(model: Path, recipe: str, name: str, assignments: Sequence[str] = ()) -> str | None:
    """The command for the model that run `name` of a recipe exported: play, generate, evaluate, or the next training.

    assignments: those of the run (`preset=tiny`). None if no command fits.
    """
    folder = shlex.quote(str(model))
    if (model / CONFIG).is_file():
        config = load_config(model)
        if not config.clips:
            return f"vidar play {folder}"
        told = "--label 0" if "label" in config.accepts else "--prompt 'a few words'"
        return f"vidar generate {folder} {told} --out sample.{'png' if config.frames == 1 else 'mp4'}"
    known = recipes()
    then = then_of(known[recipe]) if recipe in known else ""
    return then.replace("MODEL", folder) or _next_training(model, name, assignments)


def _next_training(model: Path, name: str, assignments: Sequence[str]) -> str | None:
    """`vidar train` for the recipe that trains on this tokenizer by default; a world of the same data comes first."""
    default = str(Path("runs") / name / "model")
    parameters = {one: inspect.signature(make).parameters for one, make in recipes().items()}
    found = [one for one, given in parameters.items() if "tokenizer" in given and given["tokenizer"].default == default]
    if not found:
        return None
    namesake = name.replace("tokenizer", "world")
    recipe = namesake if namesake in found else found[0]
    keys = {text: text.partition("=")[0] for text in assignments}
    words = [text for text, key in keys.items() if key in CARRIED and key in parameters[recipe]]
    words += [] if str(model) == default else [f"tokenizer={model}"]
    return shlex.join(["vidar", "train", recipe, *words])
