"""Load and save models: shipped models by name, or directories in the Hugging Face layout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

import vidar
from vidar.conditioning.net import WorldNet
from vidar.config import load_file, to_dict
from vidar.data.atomic import replacing, replacing_folder
from vidar.data.text import check_regular
from vidar.model.model import VideoModel, VideoModelConfig
from vidar.model.start_hashes import START, check_starts
from vidar.nn.outcome import OutcomeNet
from vidar.nn.precision import fast_dtype
from vidar.nn.pretrained import load_component, save_component
from vidar.types import UsageError, VidarError

SHIPPED = Path(__file__).parent.parent / "pretrained"
INDEX, CONFIG = "model_index.json", "world.json"
AGAIN = "train or fetch the world again"
SHA256 = "_sha256"  # of world.json and the index itself; models of earlier versions have none
MEMORY = "memory"  # networks of the memory; most models have none
OUTCOME = "outcome"  # the reward and termination head; most models have none


def shipped() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{INDEX}"))


def save(model: VideoModel, directory: str | os.PathLike[str], dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Write tokenizer/, transformer/, outcome/ (float32, if the model has one), world.json; last, model_index.json.

    Raises VidarError if they cannot be written; an earlier model in `directory` is then as it was.
    """
    index: dict[str, Any] = {
        "_class_name": type(model).__name__,
        "_vidar_version": vidar.__version__,
        "tokenizer": ["vidar", type(model.tokenizer).__name__],
        "transformer": ["vidar", "WorldNet"],
    }
    with replacing_folder(directory, INDEX) as folder:
        save_component(model.tokenizer, model.config.tokenizer, folder / "tokenizer", dtype)
        save_component(model.net, model.config.net, folder / "transformer", dtype)
        if model.memory is not None and model.config.memory is not None:
            save_component(model.memory, model.config.memory, folder / MEMORY, dtype)
            index[MEMORY] = ["vidar", type(model.memory).__name__]
        _write(folder / CONFIG, to_dict(model.config))
        _finish(folder, index, model.outcome)


def add_outcome(source: Path, outcome: OutcomeNet, directory: str | os.PathLike[str]) -> None:
    """Copy the world in folder `source`, file by file, and add a reward and termination head.

    Raises VidarError for a damaged source or if the copy cannot be written, UsageError if the head does not fit the
    world.
    """
    load_world_config(source).check_outcome(outcome.config)
    index = read_index(source)
    with replacing_folder(directory, INDEX) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(INDEX, OUTCOME))
        _finish(folder, index, outcome)


def locate(name: str | os.PathLike[str]) -> Path:
    """The folder of a model, given by path or shipped name. Raises UsageError or VidarError if there is none."""
    folder = Path(name)
    if (folder / INDEX).is_file():
        return folder
    if folder.is_dir():
        raise VidarError(f"{folder}: no {INDEX} in it, so it is not a complete world; train or fetch it again")
    if (SHIPPED / str(name) / INDEX).is_file():
        return SHIPPED / str(name)
    raise UsageError(f"{name}: no such world; a directory, or one of: {', '.join(shipped()) or 'none shipped'}")


def load_config(folder: Path) -> VideoModelConfig:
    """The config of the model in a folder. Raises VidarError if the folder holds another kind of config."""
    config = load_file(folder / CONFIG, AGAIN)
    if not isinstance(config, VideoModelConfig):
        raise VidarError(f"{folder / CONFIG}: holds a {type(config).__name__}, so {folder} is not a model")
    return config


def load_world_config(folder: Path) -> VideoModelConfig:
    """As `load_config`, for a world (an endless stream of frames). Raises VidarError for a model of clips."""
    config = load_config(folder)
    if config.clips:
        raise VidarError(f"{folder / CONFIG}: makes images or clips of a fixed length, so {folder} is not a world")
    return config


def load_world(
    name: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    memory: bool = True,
) -> VideoModel:
    """As `load`, for a world (an endless stream of frames). Raises VidarError for a model of clips."""
    load_world_config(locate(name))
    return load(name, device, dtype, memory)


def load(
    name: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    memory: bool = True,
) -> VideoModel:
    """Load a shipped model by name, or a directory that `save` wrote.

    dtype: None: the dtype in which the device multiplies fastest. memory: False: see `VideoModel.without_memory`.
    Raises UsageError for an unknown name, and without memory for a model that has none; VidarError for a damaged
    directory.
    """
    folder = locate(name)
    config, index = load_config(folder), read_index(folder)
    if not memory:
        config.check_memory()
    check_starts(folder, index)
    tokenizer, net = load_component(folder / "tokenizer"), load_component(folder / "transformer")
    outcome = load_component(folder / OUTCOME) if OUTCOME in index else None
    recalls = load_component(folder / MEMORY) if memory and MEMORY in index else None
    fits = getattr(tokenizer, "config", None) == config.tokenizer and isinstance(net, WorldNet)
    if not (fits and isinstance(outcome, OutcomeNet | None)):
        raise VidarError(f"{folder}: its parts are not those of a model")
    on_cpu = torch.device(device).type == "cpu"
    start = folder / START if (folder / START).is_file() else None
    model = VideoModel(config, tokenizer, net, start, outcome, recalls)
    return model.to(device, dtype or (fast_dtype() if on_cpu else torch.bfloat16))


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a model folder. Raises VidarError if it is damaged, or if it or the config was changed."""
    try:
        index = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError, RecursionError):
        index = None
    if not isinstance(index, dict):
        raise VidarError(f"{folder / INDEX}: damaged; {AGAIN}")
    sha256 = index.pop(SHA256, None)
    if sha256 is not None and sha256 != _digest(folder, index):
        raise VidarError(
            f"{folder / INDEX}: it or {CONFIG} was changed after it was saved; restore it, or, if you edited it "
            f"yourself, remove the line {SHA256!r}"
        )
    return index


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write the index of a model folder, with the hash of itself and of the config. Raises VidarError."""
    _write(folder / INDEX, {**index, SHA256: _digest(folder, index)})


def _digest(folder: Path, index: dict[str, Any]) -> str:
    """The hash of an index and of the config beside it."""
    text = json.dumps(index, sort_keys=True).encode()
    try:
        check_regular(folder / CONFIG)
        return hashlib.sha256(text + (folder / CONFIG).read_bytes()).hexdigest()
    except OSError as error:
        raise VidarError(f"{folder / CONFIG}: cannot be read ({error.strerror}); {AGAIN}") from None


def _finish(folder: Path, index: dict[str, Any], outcome: OutcomeNet | None) -> None:
    """Write the head, if there is one, and then the index, which marks the model as complete."""
    if outcome is not None:
        save_component(outcome, outcome.config, folder / OUTCOME)
        index = {**index, OUTCOME: ["vidar", "OutcomeNet"]}
    write_index(folder, index)


def _write(file: Path, content: dict[str, Any]) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
