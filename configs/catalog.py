"""Discovery of recipes and of the networks that they train.

A recipe is a function of this package marked with `@recipe`.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, get_type_hints, runtime_checkable

import torch
from pydantic import ValidationError, validate_call
from torch import nn

from vidar.config import (
    Builds,
    Config,
    first_problem,
    load_file,
    override,
    parse_value,
    resolve,
    trusted,
    unknown_key,
)
from vidar.configs.recipe import status_of
from vidar.core.system import System
from vidar.model.model import VideoModelConfig
from vidar.train.config import TrainConfig
from vidar.types import UsageError

Recipe = Callable[..., Config]
Found = TypeVar("Found")


@runtime_checkable
class Ordered(Protocol):
    """A config that has an Order: that of a world, or of an image or clip model."""

    def system(self) -> System[Any]:
        """The System that the config compiles to, as used for generation."""
        ...


def recipes() -> dict[str, Recipe]:
    """All recipes by name: the functions marked with `vidar.configs.recipe.recipe` in any module of this package."""
    package = import_module("vidar.configs")
    found: dict[str, Recipe] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        module = import_module(f"vidar.configs.{name}")
        for made, value in inspect.getmembers(module, inspect.isfunction):
            if value.__module__ == module.__name__ and status_of(value) is not None:
                found[made] = value
    return dict(sorted(found.items()))


def find(name: str) -> Recipe:
    """Find a recipe of vidar by name, or one of a trusted package as `package.module.function`.

    Raises UsageError with near matches, or if the package is not trusted or cannot be imported.
    """
    if "." in name:
        return _external(name)
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join(known)}"
        raise UsageError(f"no recipe {name!r}; {hint}")
    return known[name]


def _external(name: str) -> Recipe:
    """A function of a trusted package."""
    place, _, function = name.replace(":", ".").rpartition(".")
    package = place.partition(".")[0]
    if package not in trusted():
        raise UsageError(
            f"recipe {name!r} is refused: a recipe is code, so only those of trusted packages are called; to trust it: "
            f"--trust {package}"
        )
    try:
        module = import_module(place)
    except Exception as error:  # the code of the package may raise anything
        raise UsageError(f"recipe {name!r}: {place} cannot be imported ({type(error).__name__}: {error})") from None
    found = getattr(module, function, None)
    if not inspect.isfunction(found):
        known = [one for one, value in inspect.getmembers(module, inspect.isfunction) if value.__module__ == place]
        raise UsageError(unknown_key(function, known, place))
    return found


def resolve_recipe(name: str, assignments: Iterable[str] = ()) -> Config:
    """Resolve the name of a recipe or of a config file, with its assignments, to one config.

    Raises UsageError naming the key.

    `name=value` sets an argument of the recipe or, if it has no such argument, a field of the resulting config.
    """
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return _overridden(load_file(name), assignments)
    recipe, texts = find(name), list(assignments)
    arguments = inspect.signature(recipe).parameters
    fields = [text for text in texts if (key := _key(text)) in TrainConfig.model_fields and key not in arguments]
    try:
        config = resolve(validate_call(recipe), [text for text in texts if text not in fields])
    except ValidationError as error:  # a wrong argument of the recipe itself
        raise UsageError(f"recipe {name}: {first_problem(error)}") from None
    if not hasattr(type(config), "model_fields"):  # a function of another package may return anything
        raise UsageError(f"recipe {name}: returns a {type(config).__name__}; it must return a config")
    return _overridden(config, fields)


def _key(text: str) -> str:
    key, equals, _ = text.partition("=")
    return key if equals else ""


def _overridden(config: Config, assignments: Iterable[str]) -> Config:
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not an assignment; write key=value")
        config = override(config, key, parse_value(value))
    return config


def components(config: Config) -> dict[str, Config]:
    """The networks of a config by field name: the outermost configs whose `build()` returns an nn.Module."""
    return dict(_components(config, "model"))


def _components(config: Config, name: str) -> Iterator[tuple[str, Config]]:
    build = getattr(config, "build", None)
    made = get_type_hints(build).get("return") if build else None
    if inspect.isclass(made) and issubclass(made, nn.Module):
        yield name, config
        return
    for field in type(config).model_fields:
        value = getattr(config, field)
        if isinstance(value, Config):
            yield from _components(value, field)


def on_meta(config: Config) -> nn.Module:
    """Build the network of a config on the meta device, without storage."""
    with torch.device("meta"):
        return cast(Builds[nn.Module], config).build()


def parameters(config: Config) -> dict[str, int]:
    """The number of weights of each network of a config."""
    return {name: sum(p.numel() for p in on_meta(part).parameters()) for name, part in components(config).items()}


def find_model(config: Config) -> VideoModelConfig | None:
    """The video model that a config trains, if it does."""
    return _find(config, VideoModelConfig)


def find_world(config: Config) -> VideoModelConfig | None:
    """The same, where it goes on frame after frame."""
    found = find_model(config)
    return None if found is None or found.clips else found


def find_system(config: Config) -> Ordered | None:
    """The part of a config that has an Order, or None."""
    return _find(config, Ordered)


def _find(config: Config, kind: type[Found]) -> Found | None:
    if isinstance(config, kind):
        return config
    parts = [getattr(config, field) for field in type(config).model_fields]
    found = [_find(part, kind) for part in parts if isinstance(part, Config)]
    return next((one for one in found if one is not None), None)
