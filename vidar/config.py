"""Typed configuration: frozen pydantic models; each component has its own config class, which selects it.

In YAML or JSON a config has `type: vidar....XConfig`. The loader imports only modules under `vidar.` and under packages
that the caller names (`trust`), and accepts only subclasses of `Config`, so an untrusted file cannot load other code.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vidar.types import UsageError

Made = TypeVar("Made", covariant=True)
SCHEDULES = ("OneByOne", "Chunks", "Pyramid", "Pipeline", "Asynchronous", "Rolling")
MOVED = {  # type names in files of older versions -> current names
    "vidar.world.world.WorldConfig": "vidar.model.model.VideoModelConfig",
    "vidar.world.pictures.PicturesConfig": "vidar.model.model.VideoModelConfig",
    "vidar.train.fit.TrainConfig": "vidar.train.config.TrainConfig",
    "vidar.world.clip.ClipRequest": "vidar.model.files.GenerateRequest",
    **{f"vidar.world.scheduled.{kind}Config": f"vidar.model.schedules.{kind}Config" for kind in SCHEDULES},
}


class Builds(Protocol[Made]):
    """A config with `build`, for fields that are typed as `Config`: `cast(Builds[Stepper], config.stepper).build()`."""

    def build(self) -> Made:
        """The object that the config describes."""
        ...


class Config(BaseModel):
    """Base of every config. It is frozen; an unknown key raises UsageError naming the nearest valid one.

    Subclasses add `build(...)`. YOUNGER: fields that files of earlier versions lack; they are not written while None,
    so that files and hashes of the same config stay equal.
    """

    YOUNGER: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    def __init__(self, **data: Any) -> None:
        for key in data:
            if key not in type(self).model_fields:
                raise UsageError(unknown_key(key, type(self).model_fields, type(self).__name__))
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise UsageError(f"{type(self).__name__}: {first_problem(error)}") from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**values, **changes})


def unknown_key(key: str, valid: Iterable[str], owner: str) -> str:
    """A one-line message for a key that does not exist, with the nearest valid keys."""
    names = sorted(valid)
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join(names) or 'none'}"
    return f"{owner} has no {key!r}; {hint}"


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation error as `key: message`."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']} (got {problem.get('input')!r})" if where else str(problem["msg"])


def to_dict(value: Any) -> Any:
    """A config as plain data: {type: "vidar....XConfig", field: ...}, recursively."""
    if isinstance(value, Config):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        told = {name: getattr(value, name) for name in type(value).model_fields}
        told = {name: one for name, one in told.items() if one is not None or name not in value.YOUNGER}
        return {"type": kind, **{name: to_dict(one) for name, one in told.items()}}
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [to_dict(item) for item in cast(Iterable[Any], value)]
    return value


def from_dict(data: Any) -> Any:
    """Inverse of `to_dict`. Raises UsageError for a type outside `vidar.` (see `trust`) or one that is not a Config."""
    if isinstance(data, Mapping):
        mapping = cast(Mapping[str, Any], data)
        fields = {str(key): from_dict(value) for key, value in mapping.items() if key != "type"}
        return _config_type(str(mapping["type"]))(**fields) if "type" in mapping else fields
    if isinstance(data, list):
        return [from_dict(item) for item in cast(list[Any], data)]
    return data


_TRUSTED = {"vidar"}


def trust(package: str) -> None:
    """Allow this process to load configs of another package as well. Only the caller can do this, never a file.

    Raises UsageError if the package is not found.
    """
    name = package.partition(".")[0]
    if name not in sys.modules and (not name or find_spec(name) is None):
        raise UsageError(
            f"package {name!r} is not found, so none of its configs can be loaded; install it, or put its "
            "folder on PYTHONPATH"
        )
    _TRUSTED.add(name)


def trusted() -> list[str]:
    """The trusted packages, to be passed on to worker processes."""
    return sorted(_TRUSTED)


def current_type(path: str) -> str:
    """The current name of a config type that a file of an older version calls `path`."""
    return MOVED.get(path, path)


def first_type(path: str) -> str:
    """The name of a config type in the oldest supported version: a name that does not change when a class moves."""
    return next((old for old, new in MOVED.items() if new == path), path)


def _config_type(path: str) -> type[Config]:
    path = current_type(path)
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] not in _TRUSTED or "." not in path:
        raise UsageError(
            f"type {path!r} is refused: only configs under vidar. and of trusted packages are loaded; to trust one: "
            "vidar --trust PACKAGE, vidar.config.trust"
        )
    try:
        found = getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        found = None
    if not (inspect.isclass(found) and issubclass(found, Config)):
        raise UsageError(f"type {path!r} is not a vidar config")
    return found


def to_yaml(config: Config) -> str:
    """The resolved config as YAML; `load_file` reads it back to an equal config."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, width=110)


def load_file(path: str | os.PathLike[str], remedy: str = "correct it") -> Any:
    """Read a config from .yaml, .yml or .json. remedy: what to do if the file is damaged.

    Raises UsageError naming the file if it is missing, unreadable or no config.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"{file}: no such config file")
    try:
        text = file.read_text(encoding="utf-8")
        data: Any = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); {remedy}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: no UTF-8, JSON, number or date
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file}: not readable as {file.suffix or 'YAML'}: {reason}; {remedy}") from None
    if not (isinstance(data, Mapping) and "type" in data):
        example = "as `vidar config RECIPE` prints it"
        raise UsageError(f"{file}: a config file needs a 'type' at the top, {example}; {remedy}")
    try:
        return from_dict(cast(Any, data))
    except (UsageError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise UsageError(f"{file}: {error}") from None


def parse_value(text: str) -> Any:
    """Parse a command-line value as YAML: numbers, true/false, null, [lists], text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def override(config: Config, path: str, value: Any) -> Config:
    """A new config in which the field at path `a.b` has another value. Raises UsageError naming the nearest key."""
    head, _, rest = path.partition(".")
    if head not in type(config).model_fields:
        raise UsageError(unknown_key(head, type(config).model_fields, type(config).__name__))
    if not rest:
        return config.replace(**{head: from_dict(value)})
    inner = getattr(config, head)
    if not isinstance(inner, Config):
        raise UsageError(f"{type(config).__name__}.{head} is not a config and has no field {rest!r}")
    return config.replace(**{head: override(inner, rest, value)})


def resolve(recipe: Callable[..., Config], assignments: Iterable[str]) -> Config:
    """Call a recipe with `name=value` (its arguments), then set `a.b=value` (paths in the resulting config)."""
    arguments: dict[str, Any] = {}
    paths: list[tuple[str, Any]] = []
    parameters = inspect.signature(recipe).parameters
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not an assignment; write key=value")
        if "." in key:
            paths.append((key, parse_value(value)))
        elif key in parameters:
            arguments[key] = parse_value(value)
        else:
            raise UsageError(unknown_key(key, parameters, f"recipe {recipe.__name__}"))
    config = recipe(**arguments)
    for key, value in paths:
        config = override(config, key, value)
    return config
