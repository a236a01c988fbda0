"""What to do with a trained model: the command that comes after `vidar train`."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path

from vidar.config import load_file
from vidar.configs.catalog import recipes
from vidar.model.load import CONFIG, load_config
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig
from vidar.tokenizers.config import TokenizerConfig

FEW_STEPS = 1000  # Choice: below, the models of all recipes still show noise or blur
CARRIED = ("preset", "data")  # arguments that the next recipe must share


def next_command(model: Path, name: str, assignments: Sequence[str] = ()) -> str | None:
    """The command for the model that run `name` exported: play, generate, evaluate, or the next training.

    assignments: those of the run (`preset=tiny`). None if no command fits.
    """
    folder = shlex.quote(str(model))
    if (model / CONFIG).is_file():
        config = load_config(model)
        if not config.clips:
            return f"vidar play {folder}"
        told = "--label 0" if "label" in config.accepts else "--prompt 'a few words'"
        return f"vidar generate {folder} {told} --out sample.{'png' if config.frames == 1 else 'mp4'}"
    config = load_file(model / "config.json") if (model / "config.json").is_file() else None
    if isinstance(config, InverseDynamicsNetConfig):
        return f"vidar eval WORLD --suite world --idm {folder} --out runs/eval"
    return _next_training(model, name, assignments) if isinstance(config, TokenizerConfig) else None


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
