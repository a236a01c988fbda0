"""A saved module: `config.json` (type and fields) and `model.safetensors`. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file as save_tensors
from torch import nn

from vidar.config import Config, load_file, to_dict
from vidar.data.atomic import make_folder, replacing
from vidar.types import VidarError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
AGAIN = "save or fetch it again"
SHA256 = "sha256"  # of weights and config, in the metadata of the weights; models of earlier versions have none


def save_component(
    module: nn.Module, config: Config, directory: str | os.PathLike[str], dtype: torch.dtype | None = None
) -> None:
    """Write weights and config. dtype: store floating-point weights in this type.

    Each file is written completely or not at all: weights first, config last. Raises VidarError if writing fails.
    """
    folder = make_folder(directory)
    tensors = {
        name: value.detach().to("cpu", dtype if dtype and value.is_floating_point() else value.dtype).contiguous()
        for name, value in module.state_dict().items()
    }
    text = json.dumps(to_dict(config), indent=2) + "\n"
    with replacing(folder / WEIGHTS) as file:
        save_tensors(tensors, file, metadata={"format": "pt", SHA256: content_digest(tensors, text)})
        _sort_metadata(file)
    with replacing(folder / CONFIG) as file:
        file.write_text(text)


def load_component(directory: str | os.PathLike[str]) -> Any:
    """Load a module that `save_component` wrote, in evaluation mode and in the dtype that its config builds.

    Raises VidarError if a file is missing, damaged or changed, or if the files do not fit each other.
    """
    folder = Path(directory)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise VidarError(f"{folder / name}: missing; {folder} is not a complete saved model; {AGAIN}")
    config, text = load_file(folder / CONFIG, AGAIN), (folder / CONFIG).read_text()
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            names, sha256 = list(file.keys()), (file.metadata() or {}).get(SHA256)
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        problem = str(error).splitlines()[0]
        raise VidarError(f"{folder / WEIGHTS}: cannot be read, damaged or truncated ({problem}); {AGAIN}") from None
    if sha256 is not None and sha256 != content_digest(tensors, text):
        raise VidarError(f"{folder / WEIGHTS}: it or {CONFIG} was changed after it was saved; {AGAIN}")
    try:
        module: nn.Module = config.build()
    except (AttributeError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:  # of an earlier version
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise VidarError(f"{folder / CONFIG}: cannot be built ({problem}); {AGAIN}") from None
    problem = misfit(module, tensors)
    if problem:
        raise VidarError(f"{folder / WEIGHTS}: does not fit {CONFIG} beside it: {problem}; {AGAIN}")
    module.load_state_dict(tensors)
    return module.eval()


def _sort_metadata(file: Path) -> None:
    """Equal modules get equal bytes: safetensors writes its metadata in an order that differs from call to call."""
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(text.ljust(size))


def content_digest(tensors: dict[str, torch.Tensor], text: str) -> str:
    """The sha256 of tensors and the text that belongs to them."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():  # an empty one has no bytes, and may have strides of 0
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def misfit(module: nn.Module, tensors: dict[str, torch.Tensor]) -> str:
    """The first difference between a module's tensors and `tensors`, or an empty string."""
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            return f"{name} is missing"
        if name not in wanted:
            return f"{name} is not wanted"
        if wanted[name].shape != tensors[name].shape:
            return f"{name} has shape {list(tensors[name].shape)}, not {list(wanted[name].shape)}"
    return ""
