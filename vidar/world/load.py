"""Load and save worlds: a shipped one by name, or a directory in the Hugging Face layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

import vidar
from vidar.conditioning.net import WorldNet
from vidar.config import load_file, to_dict
from vidar.data.atomic import replacing
from vidar.nn.precision import fast_dtype
from vidar.nn.pretrained import load_component, save_component
from vidar.tokenizers.autoencoder import Autoencoder
from vidar.types import UsageError, VidarError
from vidar.world.world import World, WorldConfig

SHIPPED = Path(__file__).parent.parent / "pretrained"
INDEX, CONFIG = "model_index.json", "world.json"
START = "start.mp4"  # the clip in a world's folder that serves where no context is given


def shipped() -> list[str]:
    """Names of the worlds that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{INDEX}"))


def save(world: World, directory: str | os.PathLike[str], dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Write tokenizer/, transformer/, world.json and, last, model_index.json."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    save_component(world.tokenizer, world.config.tokenizer, folder / "tokenizer", dtype)
    save_component(world.net, world.config.net, folder / "transformer", dtype)
    index = {
        "_class_name": "World",
        "_vidar_version": vidar.__version__,
        "tokenizer": ["vidar", "Autoencoder"],
        "transformer": ["vidar", "WorldNet"],
    }
    for name, content in ((CONFIG, to_dict(world.config)), (INDEX, index)):
        with replacing(folder / name) as file:
            file.write_text(json.dumps(content, indent=2) + "\n")


def locate(name: str | os.PathLike[str]) -> Path:
    """The folder of a world by path or shipped name. Raises UsageError or VidarError where there is none."""
    folder = Path(name)
    if (folder / INDEX).is_file():
        return folder
    if folder.is_dir():
        raise VidarError(f"{folder}: no {INDEX} in it, so it is not a complete world; train or fetch it again")
    if (SHIPPED / str(name) / INDEX).is_file():
        return SHIPPED / str(name)
    raise UsageError(f"{name}: no such world; a directory, or one of: {', '.join(shipped()) or 'none shipped'}")


def load(name: str | os.PathLike[str], device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> World:
    """A shipped world by name, or a directory that `save` wrote. dtype None: what the device multiplies fastest.

    Raises UsageError for a name that is neither, VidarError for a damaged directory.
    """
    folder = locate(name)
    config = load_file(folder / CONFIG)
    tokenizer, net = load_component(folder / "tokenizer"), load_component(folder / "transformer")
    if not (isinstance(config, WorldConfig) and isinstance(tokenizer, Autoencoder) and isinstance(net, WorldNet)):
        raise VidarError(f"{folder}: its parts are not those of a world")
    on_cpu = torch.device(device).type == "cpu"
    start = folder / START if (folder / START).is_file() else None
    return World(config, tokenizer, net, start).to(device, dtype or (fast_dtype() if on_cpu else torch.bfloat16))
