"""Weights of published networks from files of the user. Nothing is downloaded, and nothing is unpickled but tensors."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidar.nn.pretrained import misfit
from vidar.types import VidarError


def digest(*files: str | Path) -> str:
    """The first 8 hexadecimal digits of the sha256 of the files' content. Raises VidarError if one is missing."""
    found = hashlib.sha256()
    for file in files:
        with existing(file).open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:8]


def existing(file: str | Path) -> Path:
    """The path of a file. Raises VidarError if there is none."""
    if not Path(file).is_file():
        raise VidarError(f"{file}: no such file of weights; give the path of a downloaded one")
    return Path(file)


def read_weights(file: str | Path) -> dict[str, Any]:
    """The content of a .safetensors file, or of a checkpoint of torch that holds tensors and plain values only.

    Raises VidarError in one line if it cannot be read that way.
    """
    path = existing(file)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise VidarError(
            f"{file}: holds more than tensors, which vidar does not unpickle; load it yourself where you trust it and "
            "save its tensors with safetensors.torch.save_file"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise VidarError(f"{file}: is no readable file of weights ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise VidarError(f"{file}: holds a {type(found).__name__}, not named weights")
    return cast(dict[str, Any], found)


def tensors_of(content: Mapping[str, Any], keys: tuple[str, ...], prefixes: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors below the first of `keys` that `content` has (itself if none), float32, without name prefixes."""
    for key in keys:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        if isinstance(value, Tensor):
            found[name] = value.float()
    return found


def fill(module: nn.Module, tensors: Mapping[str, Tensor], file: str | Path) -> None:
    """Put weights into a module, which may be on the meta device. Raises VidarError with the first difference."""
    problem = misfit(module, dict(tensors))
    if problem:
        raise VidarError(f"{file}: is not a {type(module).__name__} of this size: {problem}")
    module.load_state_dict(tensors, assign=True)
    module.eval().requires_grad_(False)
